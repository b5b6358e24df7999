"""`zmqctl out-of-service`: stop the receiver of this node for good, and bring it back.

`systemctl stop` of the service alone is undone within milliseconds: systemd keeps the port, and starts the receiver again with
the next connection of a peer. So the socket goes first, and neither comes back with a reboot.
"""

import shutil
import subprocess

import click

from openstack_zeromq.cli.drain import drain
from openstack_zeromq.cli.settings import config_file, fail

SERVICE = "openstack-zeromq-receiver.service"
UNITS = ("openstack-zeromq-receiver.socket", SERVICE)
"""In the order in which they are stopped, and started."""
_WITHIN = 60.0
"""Seconds for systemd: the unit has 15 s to stop (TimeoutStopSec=), and 30 s to start."""


@click.command("out-of-service")
@config_file
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to drain at most; 0 does not."
)
@click.option("--back", is_flag=True, help="Start the receiver again, now and at boot.")
@click.pass_context
def out_of_service(ctx: click.Context, config_files: tuple[str, ...], timeout: float, back: bool) -> None:
    """Drain this node, then stop its receiver and keep it stopped, also over a reboot; exit 3 when it cannot be drained.

    Services of this node cannot use the bus until --back, or the next run of the rollout. Needs root.
    """
    active, boots = _are("is-active"), _are("is-enabled")
    if back:
        if active == boots == (True, True):
            click.echo("already in service")
            return
        _must("enable", "--now", *UNITS)
        click.echo("in service")
        return
    if not any(active + boots):
        click.echo("already out of service")
        return
    if active[1] and timeout > 0:
        ctx.invoke(drain, config_files=config_files, timeout=timeout, off=False)
    _must("disable", "--now", *UNITS)
    click.echo("out of service; zmqctl out-of-service --back ends it")


def is_out() -> bool:
    """Whether the receiver of this node was stopped for good; also false where there is no systemd, or no unit of it."""
    return shutil.which("systemctl") is not None and [_systemctl("is-enabled", unit).stdout.strip() for unit in UNITS] == [
        "disabled",
        "disabled",
    ]


def _are(question: str) -> tuple[bool, bool]:
    """Ask systemd about both units: `is-active` or `is-enabled`."""
    first, second = (_systemctl(question, "--quiet", unit).returncode == 0 for unit in UNITS)
    return first, second


def _must(*words: str) -> None:
    done = _systemctl(*words)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        fail(f"systemctl {' '.join(words)} failed: {said}; it needs root, and units that the rollout has written")


def _systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(  # noqa: S603 - our own arguments, no shell
            ["systemctl", *words],  # noqa: S607 - of the system, wherever it lies
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_WITHIN,
        )
    except FileNotFoundError:
        fail("there is no systemd here; stop the receiver with what runs it (supervisorctl stop receiver)")
    except subprocess.TimeoutExpired:
        fail(f"systemctl {' '.join(words)} did not end within {_WITHIN:g} s; journalctl -u {SERVICE} says why")
