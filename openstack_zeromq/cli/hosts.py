"""`zmqctl hosts` and `zmqctl services`: who serves a topic, as the receiver sees it, and who is alive, as the store does."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openstack_zeromq import options
from openstack_zeromq.cli.settings import config_file, fail, read
from openstack_zeromq.errors import NoReceiverError, StoreError, ZeroMQError
from openstack_zeromq.matchmaker import choose
from openstack_zeromq.matchmaker.base import Service
from openstack_zeromq.receiver import admin


@click.command()
@click.argument("topic")
@config_file
def hosts(topic: str, config_files: tuple[str, ...]) -> None:
    """Ask the receiver of this node who serves TOPIC; exit 1 when nobody does."""
    settings = read(*config_files)
    try:
        answer = admin.answer_of(settings.ipc_dir, "hosts", topic)
    except NoReceiverError as exc:
        fail(str(exc))
    console = Console(highlight=False, soft_wrap=True)
    if answer["problem"]:
        console.print(Text(f"matchmaker: {answer['problem']}", style="red"))
    if not answer["known"]:
        fail(f"the matchmaker does not know {topic} yet; is its store there? zmqctl status shows it")
    if not answer["hosts"]:
        fail(f"nobody serves {topic}; has a service that listens to it been started?")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("host", "address", "port"):
        table.add_column(column, justify="right" if column == "port" else "left")
    for host, facts in answer["hosts"].items():
        table.add_row(Text(host), Text(facts["address"]), str(facts["port"] or settings.port))
    console.print(table)
    for server, there in answer["servers"].items():
        console.print(Text(f"server {server} is on {', '.join(there)}"))


@click.command()
@config_file
@click.option("--topic", help="Only this topic.")
@click.option("--store", type=click.Choice(["consul", "redis", "sentinel"]), help="Which store. Default: the receiver's own.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def services(config_files: tuple[str, ...], topic: str | None, store: str | None, as_json: bool) -> None:
    """Every server of every topic in the matchmaker's store, and whether it is alive."""
    settings = read(*config_files)
    settings = replace(settings, matchmaker=store or settings.matchmaker)
    if settings.matchmaker not in {"redis", "sentinel", "consul"}:
        fail(f"rpc_zmq_matchmaker = {settings.matchmaker} knows hosts, not who is alive; name a store that does with --store")
    try:
        found = [service for service in asyncio.run(_services(settings)) if topic in {None, service.topic}]
    except StoreError as exc:
        fail(str(exc) if exc.refused else f"{exc}; is {settings.matchmaker} there?")
    except ZeroMQError as exc:
        fail(str(exc))
    if as_json:
        click.echo(json.dumps([service._asdict() for service in found], indent=2))
    else:
        Console(highlight=False, soft_wrap=True).print(_table(found))


async def _services(settings: options.Settings) -> Sequence[Service]:
    store = choose.store(settings)
    try:
        return await store.services()
    finally:
        await store.close()


def _table(found: Sequence[Service]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("topic", "server", "host", "state", "heard"):
        table.add_column(column, justify="right" if column == "heard" else "left", no_wrap=True)
    for service in found:
        state = Text("alive", style="green") if service.alive else Text("dead", style="red")
        heard = "" if service.heard is None else f"{service.heard:.0f} s ago"
        table.add_row(Text(service.topic), Text(service.server), Text(service.host), state, heard)
    return table
