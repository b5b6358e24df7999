"""`zmqctl drain`: prepare a node for maintenance.

New work goes to other hosts, and the command waits until what is here has been taken."""

import time
from typing import Any

import click

from openstack_zeromq.cli.settings import config_file, fail, read
from openstack_zeromq.delivery.link import BEATS_UNTIL_DOWN
from openstack_zeromq.errors import NoReceiverError
from openstack_zeromq.options import Settings
from openstack_zeromq.receiver import admin

_POLL = 0.25
_STILL_BUSY = 3


@click.command()
@config_file
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to wait at most.")
@click.option("--off", is_flag=True, help="Take new work again.")
def drain(config_files: tuple[str, ...], timeout: float, off: bool) -> None:
    """Leave new work to other nodes, and wait until nothing waits here; exit 3 when something still does.

    What is sent to this very node still comes, and so does what no other node serves. A restart of the receiver ends it.
    """
    settings = read(*config_files)
    _ask(settings, "undrain" if off else "drain")
    if off:
        click.echo("takes new work again")
        return
    deadline = time.monotonic() + timeout
    said = ""
    heard_by_all = BEATS_UNTIL_DOWN * settings.heartbeat
    while (answer := _ask(settings, "status")) and not _done(answer, heard_by_all):
        if answer["draining_s"] is None:
            fail("the receiver does not drain any more: it was restarted, or somebody ended it")
        if left(answer) != said:
            said = left(answer)
            click.echo(said)
        if time.monotonic() >= deadline:
            fail(f"still here after {timeout:g} s: {said}; it keeps draining, zmqctl drain --off ends that", _STILL_BUSY)
        time.sleep(_POLL)
    click.echo("nothing waits here")


def left(answer: dict[str, Any]) -> str:
    """What the receiver still holds."""
    incoming, outgoing = answer["incoming"]["messages"], answer["outgoing"]["messages"]
    return f"{incoming} messages wait for services of this node, {outgoing} from them are on their way"


def _done(answer: dict[str, Any], heard_by_all: float) -> bool:
    """Within `heard_by_all` seconds every peer that is there has been told."""
    since = answer["draining_s"]
    nothing = not answer["incoming"]["messages"] and not answer["outgoing"]["messages"]
    return since is not None and since >= heard_by_all and nothing


def _ask(settings: Settings, question: str) -> dict[str, Any]:
    try:
        return admin.answer_of(settings.ipc_dir, question)
    except NoReceiverError as exc:
        fail(str(exc))
