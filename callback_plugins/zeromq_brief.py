"""Print what changes and what fails, and say before what may take long: a run with nothing to do fits on a screen.

As Ansible's default output, but for four things. Tasks that change nothing, and plays without hosts, are not printed (with -v
they are). A task that says in its variable `__zeromq_takes` what it waits for is announced when it begins. A failure that has a
message is that message, without the data of the module beside it: of an input with a wrong value only what is wrong is printed,
not the role's whole specification. A failure that the playbook itself says in the end (`__zeromq_told_in_the_end`) is printed
there only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ansible import constants
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = r"""
name: zeromq_brief
type: stdout
short_description: Print what changes, what fails, and what may take long
description:
  - Leaves out tasks that change nothing, unless C(-v) is given, and the data of modules beside a failure's message.
author: openstack-zeromq maintainers
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as C(stdout_callback) in ansible.cfg
"""

KEPT = ("stdout", "stderr", "rc", "item")
"""What of a failure's data says more than its message."""


class CallbackModule(Default):
    """Ansible's default output, shorter."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "zeromq_brief"

    _brief = _said = False
    _coming: object = None

    def get_option(self, option: str, hostvars: object = None) -> object:
        if option == "display_ok_hosts" and self._display.verbosity == 0:
            return self._said
        return super().get_option(option, hostvars)

    def v2_runner_on_ok(self, result: object) -> None:
        """Print what changed, and what a task says to the operator (ansible.builtin.debug)."""
        if isinstance(result.task, TaskInclude) and self._display.verbosity == 0:
            return  # a heading, and nothing below it
        self._said = bool(result.result.get("_ansible_verbose_always"))
        super().v2_runner_on_ok(result)
        self._said = False

    def v2_playbook_on_include(self, included_file: object) -> None:
        """Print which file of tasks a host goes on with only where details are asked for."""
        if self._display.verbosity > 0:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_play_start(self, play: object) -> None:
        """Print the play with its first task: one that has no hosts is not printed."""
        self._coming = play
        if self._display.verbosity > 0:
            self._begin_play()

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._display.verbosity > 0:
            super().v2_playbook_on_no_hosts_matched()

    def _begin_play(self) -> None:
        play, self._coming = self._coming, None
        if play is not None:
            super().v2_playbook_on_play_start(play)

    def v2_playbook_on_task_start(self, task: object, is_conditional: bool) -> None:
        self._begin_play()
        super().v2_playbook_on_task_start(task, is_conditional)
        takes = task.vars.get("__zeromq_takes")
        if takes and self._display.verbosity == 0:
            self._display.display(f"... {task.get_name()}: {takes}", color=constants.COLOR_VERBOSE)

    def v2_runner_on_failed(self, result: object, ignore_errors: bool = False) -> None:
        if self._is_told_later(result):
            return
        with self._failing():
            super().v2_runner_on_failed(result, ignore_errors)

    def v2_runner_item_on_failed(self, result: object) -> None:
        if self._is_told_later(result):
            return
        with self._failing():
            super().v2_runner_item_on_failed(result)

    def _is_told_later(self, result: object) -> bool:
        """Return whether the playbook gathers this failure, and says it in the end."""
        return bool(result.task.get_vars().get("__zeromq_told_in_the_end")) and self._display.verbosity == 0

    @contextmanager
    def _failing(self) -> Iterator[None]:
        self._brief = self._display.verbosity == 0
        yield
        self._brief = False

    def _handle_exception(self, result: dict[str, object], *arguments: object, **options: object) -> None:
        """Show where in Ansible's code or in a file it failed; a message that follows is enough."""
        if self._brief and result.get("msg"):
            result.pop("exception", None)
        super()._handle_exception(result, *arguments, **options)

    def _dump_results(self, result: Mapping[str, object], *arguments: object, **options: object) -> str:
        return super()._dump_results(brief(result) if self._brief and result.get("msg") else result, *arguments, **options)


def brief(result: Mapping[str, object]) -> dict[str, object]:
    """Return a failure's message, and what of its data says more."""
    errors = result.get("argument_errors")
    if errors:
        return {"msg": "\n".join(map(str, errors))}
    return {"msg": result["msg"], **{name: result[name] for name in KEPT if result.get(name)}}
