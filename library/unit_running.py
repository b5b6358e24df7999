"""Keep a systemd unit running, with what is installed and configured now.

Read (systemctl show) -> plan (pure: `plan`) -> apply. A service is restarted when its unit, or a file it depends on, is
another than its main process was started with: a restart that was due survives a run that failed before it. The sockets that
it is handed stay open over its restart; they are opened again only when their own unit changed. What `supervised` is for
supervisor.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_running
short_description: Keep a systemd service running with its present files
description:
  - Enables, starts or restarts a service and the sockets that belong to it, and waits until it is really up.
  - Tells systemd of changed units. In check mode a unit that does not exist yet is no failure, but a start to come.
author: openstack-zeromq maintainers
options:
  name:
    description: The service, C(.service) may be left out; with O(state=absent) any unit.
    type: str
    required: true
  sockets:
    description: Socket units that must be active before the service. They stay open while it is restarted.
    type: list
    elements: str
    default: []
  state:
    description: V(started) keeps it running, V(absent) stops and disables it and its sockets, and removes O(files).
    type: str
    choices: [started, absent]
    default: started
  enabled:
    description: Whether it starts at boot; counts with O(state=started). Without it that stays as it is.
    type: bool
  files:
    description: Files that go with it, its units for instance; counts with O(state=absent).
    type: list
    elements: path
    default: []
  newer:
    description:
      - Restart the service when one of these files changed after its process started. This is remembered below O(record_dir),
        so that the node's clock may jump.
      - Of a symbolic link both count, the link and what it names.
    type: list
    elements: path
    default: []
  record_dir:
    description: Where it is remembered with which files processes were started. Like them, it need not outlive a reboot.
    type: path
    default: /run/openstack-zeromq/started
  pending:
    description:
      - Files of O(newer), or units, would be changed by this run.
      - Counts in check mode only, where they are not changed, to tell the restart that a real run does.
    type: bool
    default: false
  restart:
    description: Restart a service that runs, though nothing changed.
    type: bool
    default: false
  farewell:
    description:
      - A command, word by word, that runs before a running service is stopped or restarted, for instance one that drains it.
      - When it fails the step is done all the same, with a warning.
    type: list
    elements: str
    default: []
  farewell_timeout:
    description: Seconds that O(farewell) may take at most.
    type: int
    default: 120
  timeout:
    description: Seconds to wait at most for each step.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Keep the receiver running
  unit_running:
    name: openstack-zeromq-receiver
    sockets: [openstack-zeromq-receiver.socket]
    enabled: true
    newer:
      - /etc/oslo/zeromq.conf
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
pid:
  description: The service's main process; 0 when it is absent, or does not run in check mode.
  returned: success
  type: int
"""

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "sockets": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["started", "absent"], "default": "started"},
    "enabled": {"type": "bool"},
    "files": {"type": "list", "elements": "path", "default": []},
    "newer": {"type": "list", "elements": "path", "default": []},
    "record_dir": {"type": "path", "default": "/run/openstack-zeromq/started"},
    "pending": {"type": "bool", "default": False},
    "restart": {"type": "bool", "default": False},
    "farewell": {"type": "list", "elements": "str", "default": []},
    "farewell_timeout": {"type": "int", "default": 120},
    "timeout": {"type": "int", "default": 30},
}

PROPERTIES = (
    "LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,Type,MainPID,"
    "ExecMainStartTimestampMonotonic,ActiveEnterTimestampMonotonic"
)
SUFFIXES = (".service", ".socket", ".timer", ".target", ".path")
AT_REST = ("inactive", "failed")
POLL_INTERVAL = 0.05
STEADY = 1.0
"""Seconds that a service which does not say when it is ready must live, to count as up."""


class UnitError(Exception):
    """Something cannot be done, or did not happen in time; the message says what, and shows the journal."""


@dataclass(frozen=True)
class Unit:
    """What systemd knows of a unit."""

    name: str
    load: str = "loaded"  # or not-found, masked, bad-setting, error
    active: str = "inactive"  # active, reloading, activating, deactivating, inactive, failed
    sub: str = "dead"
    boots: bool = False  # it starts at boot
    stale: bool = False  # its files changed since systemd read them
    outdated: bool = False  # what it is made of changed since it started
    pid: int = 0
    settled: bool = True  # it says itself when it is ready, or has lived long enough
    process: str = ""  # this one and no other, whatever clock and pid say; empty when none runs
    stamps: Mapping[str, list[int]] = field(default_factory=dict)  # of the files that it is made of

    @property
    def there(self) -> bool:
        return self.load != "not-found"

    @property
    def alive(self) -> bool:
        """It runs, or is about to by itself."""
        return self.active in ("active", "reloading") or (self.active == "activating" and self.sub != "auto-restart")


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    asked = module.params
    name = asked["name"] if asked["name"].endswith(SUFFIXES) else f"{asked['name']}.service"
    systemd = Systemd(asked["timeout"], Started(Path(asked["record_dir"], f"{name}.json")))
    due = asked["restart"] or (module.check_mode and asked["pending"])

    def look() -> tuple[Unit, list[Unit], list[str]]:
        service, sockets = systemd.look(name, asked["newer"], due), [systemd.look(socket) for socket in asked["sockets"]]
        refuse((service, *sockets), asked["state"], module.check_mode)
        there = [path for path in asked["files"] if os.path.lexists(path)]
        return service, sockets, plan(service, sockets, asked["state"], asked["enabled"], there)

    try:
        service, sockets, actions = look()
        if not module.check_mode:
            if actions[:1] == ["reload systemd"]:  # only then it is known which files there are
                systemd.apply(actions[0])
                service, sockets, further = look()
                actions = [actions[0], *further]
            if asked["farewell"] and disturbs(service, actions):
                systemd.farewell(asked["farewell"], asked["farewell_timeout"], module.warn)
            for action in actions:
                systemd.apply(action)
            if asked["state"] == "started":
                up = systemd.wait_until_up(name)
                systemd.remember([(up, service), *((systemd.look(socket.name), socket) for socket in sockets)])
                service = up
            else:
                systemd.forget()
        pid = service.pid if asked["state"] == "started" else 0
    except (UnitError, OSError) as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(changed=bool(actions), actions=actions, pid=pid)


def refuse(units: Iterable[Unit], state: str, check_mode: bool) -> None:
    """:raises UnitError: of these units nothing can be started."""
    if state == "absent":
        return
    for unit in units:
        if unit.load == "masked":
            raise UnitError(f"{unit.name} is masked: somebody forbade it to start; `systemctl unmask {unit.name}` allows it")
        if not unit.there and not check_mode:
            raise UnitError(f"systemd knows no {unit.name}; write it to /etc/systemd/system first")


def plan(service: Unit, sockets: Iterable[Unit], state: str, enabled: bool | None = None, files: Iterable[str] = ()) -> list[str]:
    """The steps from what was found to what is wanted; `files` are there, and go with the units. Pure."""
    units = [*sockets, service]
    if state == "absent":
        steps = [step for unit in units for step in _steps_away(unit)]
        gone = [f"remove {file}" for file in files]
        return [*steps, *gone, "reload systemd"] if gone else steps
    steps = ["reload systemd"] if any(unit.stale for unit in units) else []
    steps += [f"{'enable' if enabled else 'disable'} {unit.name}" for unit in units if enabled not in (None, unit.boots)]
    due = [unit for unit in units[:-1] if unit.outdated or not unit.alive]
    if due:  # systemd opens no socket while its service runs
        steps += [] if service.active in AT_REST else [f"stop {service.name}"]
        return [*steps, *(f"{'restart' if unit.alive else 'start'} {unit.name}" for unit in due), f"start {service.name}"]
    if service.active in AT_REST:
        return [*steps, f"start {service.name}"]
    return [*steps, f"restart {service.name}"] if service.outdated or not service.alive else steps


def disturbs(service: Unit, actions: Iterable[str]) -> bool:
    """Whether one of `actions` ends a process that works."""
    return service.active == "active" and not {f"stop {service.name}", f"restart {service.name}"}.isdisjoint(actions)


def _steps_away(unit: Unit) -> list[str]:
    if not unit.there and unit.active in AT_REST:
        return []
    return [
        *([] if unit.active == "inactive" else [f"stop {unit.name}"]),
        *([f"disable {unit.name}"] if unit.boots else []),
    ]


def unread(name: str, dropins: Iterable[str], folder: str = "/etc/systemd/system") -> list[str]:
    """Return the drop-ins of a unit that are not among `dropins`, those that systemd has read, and those of them that are gone.
    Of a directory that is new systemd says NeedDaemonReload=no. An empty one, or a link to /dev/null, is none."""
    there = [str(path) for path in Path(folder, f"{name}.d").glob("*.conf") if path.is_file() and path.stat().st_size > 0]
    read = set(dropins)
    return sorted({*there} - read | {path for path in read if not os.path.lexists(path)})


class Systemd:
    """The system's service manager, by its command line."""

    def __init__(self, timeout: float, started: Started) -> None:
        self._timeout = timeout
        self._started = started

    def look(self, name: str, newer: Iterable[str] = (), due: bool = False) -> Unit:
        """Ask what there is; changes nothing. `due`: a restart is, whatever the files say.

        :raises UnitError: no systemd answers.
        """
        done = self._run("systemctl", "show", f"--property={PROPERTIES}", "--", name)
        if done.returncode != 0:
            raise UnitError(
                f"systemd does not answer: {done.stderr.strip() or 'no reason given'}; where there is none, let supervisor"
                " run the daemons (zeromq_receiver_manager: supervisor)"
            )
        facts = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        dropins = shlex.split(facts.get("DropInPaths", ""))
        files = [facts.get("FragmentPath", ""), *dropins]
        started, process = since(facts), process_of(facts)
        stamps = stamps_of([*files, *newer])
        return Unit(
            name=name,
            load=facts["LoadState"],
            active=facts["ActiveState"],
            sub=facts["SubState"],
            boots=facts.get("UnitFileState") == "enabled",
            stale=facts["NeedDaemonReload"] == "yes" or bool(unread(name, dropins)),
            outdated=due or (started is not None and self._started.outdated(process, started, stamps)),
            pid=int(facts.get("MainPID", 0)),
            settled=facts.get("Type", "notify") == "notify" or (started is not None and time.time() - started > STEADY),
            process=process,
            stamps=stamps,
        )

    def remember(self, units: Iterable[tuple[Unit, Unit]]) -> None:
        """Of each unit, as it runs now and as it was found: what runs was started with the files that were found."""
        for now, found in units:
            if now.process:
                self._started.remember(now.process, found.stamps)

    def forget(self) -> None:
        self._started.forget()

    def apply(self, action: str) -> None:
        verb, _, name = action.partition(" ")
        if action == "reload systemd":
            self._must("systemctl", "daemon-reload")
        elif verb == "remove":
            Path(name).unlink()
        elif verb in ("enable", "disable", "stop"):
            self._must("systemctl", "--quiet", verb, "--", name)
            if verb == "stop":
                self._run("systemctl", "reset-failed", "--", name)
        elif name.endswith(".service"):
            # Whether it came up is asked by `wait_until_up`: what is restarted by systemd may need a second try.
            self._run("systemctl", "--quiet", verb, "--", name)
        elif self._run("systemctl", "--quiet", verb, "--", name).returncode != 0:
            raise UnitError(f"{name} cannot be opened\n{self._journal(name)}")

    def farewell(self, command: list[str], timeout: float, warn: Callable[[str], None]) -> None:
        """Let the service prepare for its end; `warn` hears when it did not."""
        done = self._run(*command, timeout=timeout)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
            warn(f"stopped though {shlex.join(command)} failed: {said[-1]}")

    def wait_until_up(self, name: str) -> Unit:
        """:raises UnitError: it is not up in time."""
        found = self.look(name)
        deadline = time.monotonic() + self._timeout
        while not (found.active == "active" and found.settled):
            if time.monotonic() > deadline:
                raise UnitError(f"{name} is {found.active} ({found.sub}) after {self._timeout} s\n{self._journal(name)}")
            time.sleep(POLL_INTERVAL)
            found = self.look(name)
        return found

    def _must(self, *command: str) -> None:
        done = self._run(*command)
        if done.returncode != 0:
            raise UnitError(f"{shlex.join(command)} failed: {(done.stderr or done.stdout).strip()}")

    def _journal(self, name: str, lines: int = 12) -> str:
        done = self._run("journalctl", f"--unit={name}", f"--lines={lines}", "--no-pager", "--output=cat", "--quiet")
        return done.stdout.rstrip() or "(nothing in the journal)"

    def _run(self, *command: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        timeout = self._timeout if timeout is None else timeout
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
        try:
            return subprocess.run(  # noqa: S603 - our own arguments, no shell
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=environment,
                timeout=timeout,
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(command, 127, "", f"there is no {command[0]}")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no end within {timeout:g} s")


def since(facts: Mapping[str, str]) -> float | None:
    """When the unit's process started, or, of a socket, when it was opened (seconds, wall clock); None: it does not run."""
    moment = _moment(facts)
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + moment / 1e6 if moment else None


def process_of(facts: Mapping[str, str]) -> str:
    """Names the unit's process, or the opening of a socket; empty: it does not run."""
    moment = _moment(facts)
    return f"{boot()} {facts.get('MainPID', '0')} {moment}" if moment else ""


def _moment(facts: Mapping[str, str]) -> int:
    """Microseconds from the machine's start to that of the unit's process, or to the opening of a socket; 0: it does not run."""
    of_process = facts.get("ExecMainStartTimestampMonotonic", "0") if int(facts.get("MainPID", 0)) else "0"
    moment = int(of_process) or int(facts.get("ActiveEnterTimestampMonotonic", "0"))
    return 0 if facts["ActiveState"] in AT_REST else moment


class Started:
    """The files that processes were started with, each with the stamp that it had then.

    Stamps are compared for equality, so no clock decides: a node's clock may have run ahead, or been set back, since. Only of a
    process that was started by somebody else with other files it is asked what is later.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._known: dict[str, dict] = {}
        with suppress(OSError, ValueError):
            read = json.loads(record.read_text(encoding="utf-8"))
            if isinstance(read, dict):
                self._known = {file: said for file, said in read.items() if isinstance(said, dict)}

    def outdated(self, process: str, moment: float, stamps: Mapping[str, list[int]]) -> bool:
        """Whether a file changed after `process` started, at `moment` by the present clock."""
        return any(self._changed(process, moment, file, stamp) for file, stamp in stamps.items())

    def _changed(self, process: str, moment: float, file: str, stamp: list[int]) -> bool:
        known = self._known.get(file, {})
        if known.get("stamp") == stamp:
            return False  # a later process has read it as it is, too
        if known.get("process") == process:
            return True
        return max(stamp[:2]) / 1e9 > moment

    def remember(self, process: str, stamps: Mapping[str, list[int]]) -> None:
        """`process` was started with these files."""
        said = {**self._known, **{file: {"process": process, "stamp": stamp} for file, stamp in stamps.items()}}
        if said == self._known:
            return
        self._known = said
        self._record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = self._record.with_name(f".{self._record.name}.new")
        fresh.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(self._record)

    def forget(self) -> None:
        """Leave nothing behind, empty directories included."""
        self._record.unlink(missing_ok=True)
        with suppress(OSError):
            os.removedirs(self._record.parent)


def stamps_of(files: Iterable[str]) -> dict[str, list[int]]:
    """Each of `files` that is there: when it changed (of a symbolic link also when what it names did), and its size."""
    found = {}
    for file in filter(None, files):
        with suppress(OSError):
            named = os.stat(file)
            found[file] = [os.lstat(file).st_mtime_ns, named.st_mtime_ns, named.st_size]
    return found


def boot() -> str:
    """Names this run of the machine: what counts from its start counts with this only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


if __name__ == "__main__":
    main()
