"""zmqctl: look at a node and try it out. Every command ends with status 0, or with one line that says what to do."""

import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from openstack_zeromq.cli.catalog import catalog
from openstack_zeromq.cli.drain import drain, left
from openstack_zeromq.cli.hosts import hosts, services
from openstack_zeromq.cli.keys import keys
from openstack_zeromq.cli.matrix import matrix
from openstack_zeromq.cli.out_of_service import is_out, out_of_service
from openstack_zeromq.cli.ring import ring
from openstack_zeromq.cli.settings import config_file, fail, read
from openstack_zeromq.errors import NoReceiverError
from openstack_zeromq.receiver import admin


class Commands(click.Group):
    """The commands; `ping` and `probe` need all of oslo.messaging, which nobody else should wait for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "ping", "probe"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "probe":
            from openstack_zeromq.cli.probe import probe  # noqa: PLC0415 - see above

            return probe
        if cmd_name == "ping":
            from openstack_zeromq.cli.ping import command  # noqa: PLC0415 - see above

            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="openstack-zeromq")
def main() -> None:
    """Look at a node of the bus, and try it out."""


@main.command()
@config_file
@click.option("--json", "as_json", is_flag=True, help="Print the receiver's answer as it is.")
def status(config_files: tuple[str, ...], as_json: bool) -> None:
    """What the receiver of this node is doing."""
    settings = read(*config_files)
    try:
        answer = admin.answer_of(settings.ipc_dir)
    except NoReceiverError as exc:
        fail("this node is out of service; zmqctl out-of-service --back ends it" if is_out() else str(exc))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        _show(answer)


main.add_command(catalog)
main.add_command(drain)
main.add_command(hosts)
main.add_command(keys)
main.add_command(matrix)
main.add_command(out_of_service)
main.add_command(ring)
main.add_command(services)


def _show(answer: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"[bold]{answer['node']}[/]  up {answer['uptime_s']} s, pid {answer['pid']}, {answer['services']} services,"
        f" incarnation {answer['incarnation']}, wire {answer['wire']}",
        soft_wrap=True,
    )
    if answer["draining_s"] is not None:
        console.print(
            f"[yellow]draining for {answer['draining_s']} s:[/] {left(answer)}; zmqctl drain --off ends it", soft_wrap=True
        )
    if answer.get("unseen"):
        console.print(
            f"[yellow]the processes of {answer['unseen']} services cannot be seen[/] (a pid namespace of their own, or of the"
            " receiver): they are given up after 3 s of silence, though they may live",
            soft_wrap=True,
        )
    _show_security(console, answer.get("security", {"mode": "none"}))
    _show_matchmaker(console, answer["matchmaker"])
    _table(console, "link", "state", "in_flight", rows=answer["links"])
    for host, link in answer["links"].items():
        if link["state"] != "up":
            console.print(f"  [red]{escape(_about_link(host, link))}[/]", soft_wrap=True)
    _table(console, "channel", "consumers", "depth", rows=answer["channels"])
    _show_topics(console, answer)
    unconsumed = {row["topic"]: row for row in answer.get("unconsumed", ())}
    _table(console, "topic without consumer", "waiting", "dropped", rows=unconsumed)
    counted = {name: count for name, count in answer["counters"].items() if count}
    console.print("counters  " + "  ".join(f"{name} {count}" for name, count in counted.items()), soft_wrap=True)


def _about_link(host: str, link: dict[str, Any]) -> str:
    """Where a link that is not up leads, since when it is so, and why."""
    why = f": {link['why']}" if link.get("why") else ""
    return f"{host} at {link.get('address', '?')} is {link['state']} for {link.get('since_s', 0)} s{why}"


def _show_security(console: Console, security: dict[str, Any]) -> None:
    """Who may link to it."""
    if security["mode"] == "none":
        console.print("[yellow]nothing is encrypted, everybody may link to it:[/] zmq_security = none")
        return
    own = escape(security["public_key"])
    console.print(f"keys of {security['trusted_hosts']} hosts are trusted; its own is {own}", soft_wrap=True)
    if security["problem"]:
        console.print(f"  [red]{escape(security['problem'])}[/]", soft_wrap=True)


def _show_matchmaker(console: Console, finder: dict[str, Any]) -> None:
    """What it knows, and why that may be old."""
    heard = finder.get("heard_s_ago")
    known = f"knows {len(finder['topics'])} topics" if "topics" in finder else "everything is here"
    console.print(f"matchmaker {finder['backend']}, {known}" + (f", heard {heard} s ago" if heard is not None else ""))
    if finder["problem"]:
        console.print(f"  [red]{escape(finder['problem'])}[/]", soft_wrap=True)
    if finder.get("stale"):
        console.print(f"  [yellow]not confirmed since the start:[/] {', '.join(finder['stale'])}", soft_wrap=True)
    for topic, held in finder.get("held", {}).items():
        hosts = ", ".join(held["hosts"])
        console.print(
            f"  [yellow]held:[/] {topic} keeps {hosts}, for {held['for_s']:.0f} s: {held['why']};"
            f" zmqctl ring release {topic} lets go",
            soft_wrap=True,
        )


def _show_topics(console: Console, answer: dict[str, Any]) -> None:
    """Topics that the matchmaker lacks, and fanouts that no host took."""
    if answer.get("unlisted"):
        lacking = ", ".join(map(escape, answer["unlisted"]))
        console.print(
            f"[yellow]the ring does not list this node for:[/] {lacking}; zmqctl ring missing prints what to add", soft_wrap=True
        )
    for topic, there in answer.get("announced", {}).items():
        console.print(f"  announced by {escape(', '.join(there))}, not listed: {escape(topic)}", soft_wrap=True)
    fanouts = {topic: {"fanouts": count} for topic, count in answer.get("fanouts_to_nobody", {}).items()}
    _table(console, "topic without listener", "fanouts", rows=fanouts)


def _table(console: Console, first: str, *columns: str, rows: object) -> None:
    assert isinstance(rows, dict)  # noqa: S101 - what `Receiver.status` made
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in (first, *columns):
        table.add_column(column.replace("_", " "), justify="left" if column in (first, "state") else "right")
    for name, facts in rows.items():
        state = facts.get("state")
        style = {"up": "green", "down": "red", "connecting": "yellow"}.get(state, "")
        table.add_row(name, *(str(facts[column]) for column in columns), style=style)
    console.print(table)
