"""`zmqctl catalog`: look at what a store knows of topics and nodes, and start something when it changes.

Exit status of `watch --once`: 0 a change came and was taken, 3 none came in time, 1 it could not be done; 2 usage. `show
--state` ends with 3 when there is news that nobody took yet.
"""

import asyncio
import contextlib
import json
import re
import shlex
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openstack_zeromq import systemd
from openstack_zeromq.address import compact
from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.news import NODES, Seen, news
from openstack_zeromq.catalog.shape import NOTHING, Published
from openstack_zeromq.catalog.sync import Plan, Sync
from openstack_zeromq.catalog.watch import Interest, Patience, State, Watch
from openstack_zeromq.catalog.ways import Command, Printed, Way, Webhook
from openstack_zeromq.cli.ring_sync import Duration
from openstack_zeromq.cli.settings import config_file, fail, read
from openstack_zeromq.errors import ZeroMQError
from openstack_zeromq.matchmaker import choose
from openstack_zeromq.options import Settings

_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")

_topic = click.option(
    "--topic", "topics", multiple=True, help="A topic of interest; again for more. Default: [matchmaker_ring] topics."
)
_store = click.option("--store", type=click.Choice(["consul", "redis", "sentinel"]), default="consul", show_default=True)
_nodes = click.option(
    "--nodes", is_flag=True, help="Follow Consul's list of nodes, too: it has a node before a receiver runs there."
)
_meta = click.option(
    "--node-meta", multiple=True, metavar="NAME=VALUE", help="Only nodes that have this in their Meta; again for more."
)


@click.group()
def catalog() -> None:
    """The catalog: what a store knows of topics and nodes, and what to do when it changes."""


@catalog.command()
@config_file
@_topic
@_store
@_nodes
@_meta
@click.option("--within", type=Duration(), default="10s", show_default=True, help="How long the store may take to answer.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), help="What a watch with this --state has told, instead."
)
def show(config_files: tuple[str, ...], *, as_json: bool, state: Path | None, **given: Any) -> None:
    """The hosts of the topics of interest, as the store tells them now."""
    settings = replace(read(*config_files), matchmaker=given["store"])
    try:
        if state is not None:
            sys.exit(_show_state(State(state), as_json))
        published = asyncio.run(_look(settings, _interest(settings, given), given["within"]))
    except ZeroMQError as exc:
        fail(str(exc))
    found = Seen.of(published, {shape.topic_of(key) for key in published.ring})
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        Console(highlight=False, soft_wrap=True).print(_table(found))


@catalog.command()
@config_file
@_topic
@_store
@_nodes
@_meta
@click.option("--exec", "command", default="", help="Run this (without a shell) for every change: JSON on its standard input.")
@click.option("--webhook", default="", help="POST the change as JSON to this URL; @FILE reads the URL from a file.")
@click.option(
    "--secret-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Sign the POST with what is in it."
)
@click.option("--bearer-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Send the token in it along.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="What was told. Default: zmq_state_dir/catalog.")
@click.option("--initial", is_flag=True, help="At the first start all that is there is a change.")
@click.option("--once", is_flag=True, help="End after one change, told and printed; for CI.")
@click.option("--within", type=Duration(), default="10m", show_default=True, help="With --once: how long to wait for a change.")
@click.option("--quiet-for", type=Duration(), default="2s", show_default=True, help="Tell when nothing changed for so long,")
@click.option("--at-most", type=Duration(), default="10s", show_default=True, help="but at the latest so long after a change.")
@click.option("--command-within", type=Duration(), default="60m", show_default=True, help="The command is ended after that.")
@click.option("--attempts", type=click.IntRange(1), default=6, show_default=True, help="Tries before a change counts as missed.")
@click.option(
    "--retry-after", type=Duration(), default="5s", show_default=True, help="Pause before the second try; doubled each time."
)
def watch(config_files: tuple[str, ...], *, initial: bool, once: bool, within: float, state: Path | None, **given: Any) -> None:
    """Start something for every settled change of the catalog, without touching any ring.

    The command has ZMQ_NODES_ADDED, ZMQ_NODES_MOVED, ZMQ_NODES_CHANGED (both), ZMQ_NODES_REMOVED and ZMQ_TOPICS_CHANGED in its
    environment, names with commas in between. What failed is tried again; what came meanwhile is told as one. Without --exec and
    --webhook every change is a line of JSON on the standard output.
    """
    way = _way(given)
    with contextlib.redirect_stdout(sys.stderr):  # logs, so that the changes have the standard output for themselves
        settings = replace(read(*config_files, logs=True), matchmaker=given["store"])
    patience = Patience(given["quiet_for"], given["at_most"], given["attempts"], given["retry_after"])
    try:
        interest = _interest(settings, given)
        kept = State(state or Path(settings.state_dir, "catalog"))
        with kept.claimed():
            sys.exit(asyncio.run(_watch((settings, interest, kept, patience), way, initial, within if once else None)))
    except ZeroMQError as exc:
        fail(str(exc))


async def _watch(what: tuple[Settings, Interest, State, Patience], way: Way, initial: bool, within: float | None) -> int:
    """The exit status; `within` None: for ever."""
    settings, interest, _, _ = what
    store = interest.store(settings)
    try:
        made = Watch(store, *what)
        if within is not None:
            found = await made.once(way, within, initial=initial)
            if found is not None and not isinstance(way, Printed):
                click.echo(json.dumps(found.document()))
            return 3 if found is None else 0
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, made.retry)
        systemd.notify("READY=1")
        await made.run(way, stop, initial=initial)
        systemd.notify("STOPPING=1")
        return 0
    finally:
        await store.close()


async def _look(settings: Settings, interest: Interest, within: float) -> Published:
    """What the store says now; nothing is remembered of it.

    :raises StoreError: it did not say enough in time.
    """
    store = interest.store(settings)
    try:
        with tempfile.TemporaryDirectory() as directory:
            plan = Plan(Disk(Path(directory, "ring.json")), interest.followed, choose.rules(settings))
            work = Sync(plan, store)
            await work.hear(within)
            return work.outlook().published
    finally:
        await store.close()


def _show_state(state: State, as_json: bool) -> int:
    told = state.told()
    if told is None:
        fail(f"{state.directory}: no watch has told anything there")
    published = state.seen.read() or NOTHING
    waiting = news(told, Seen.of(published, told.topics), published.source)
    if as_json:
        click.echo(json.dumps({"told": told.to_json(), "waits": waiting.document() if waiting else None}, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        console.print(_table(told))
        console.print(Text(f"not told yet: {waiting.summary()}", style="bold red") if waiting else "all is told")
    return 3 if waiting else 0


def _table(seen: Seen) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("topic", "hosts"):
        table.add_column(column, overflow="fold")
    for key, hosts in sorted(seen.ring.items(), key=lambda item: (item[0] != NODES, item[0])):
        table.add_row(Text(key, style="italic" if key == NODES else ""), Text(", ".join(hosts)))
    return table


def _interest(settings: Settings, given: dict[str, Any]) -> Interest:
    """:raises ConfigError: nothing is of interest, or what cannot be."""
    meta = dict(_pair(text) for text in given["node_meta"])
    if meta and not given["nodes"]:
        raise click.UsageError("--node-meta chooses among --nodes: give that, too")
    topics = given["topics"] or settings.ring_topics
    return Interest(tuple(dict.fromkeys(map(compact, topics))), given["nodes"], meta)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--node-meta: {text!r} is not NAME=VALUE")
    return name, value


def _way(given: dict[str, Any]) -> Way:
    if given["command"] and given["webhook"]:
        raise click.UsageError("--exec and --webhook exclude each other: a change is taken by one of them or not at all")
    if (given["secret_file"] or given["bearer_file"]) and not given["webhook"]:
        raise click.UsageError("--secret-file and --bearer-file are for --webhook")
    if given["command"]:
        try:
            return Command(tuple(shlex.split(given["command"])), given["command_within"])
        except ValueError as exc:
            raise click.UsageError(f"--exec: {exc}") from None
    if not given["webhook"]:
        return Printed()
    named: str = given["webhook"]
    url = _content(Path(named[1:]), "--webhook").decode("ascii", "replace") if named.startswith("@") else named
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _HEADER_SAFE.fullmatch(url):
        raise click.UsageError(f"--webhook: {'what is in the file' if url != named else repr(url)} is no http:// or https:// URL")
    secret = _content(given["secret_file"], "--secret-file") if given["secret_file"] else b""
    bearer = _content(given["bearer_file"], "--bearer-file").decode("ascii", "replace") if given["bearer_file"] else ""
    if bearer and not _HEADER_SAFE.fullmatch(bearer):
        raise click.UsageError("--bearer-file: what is in it is no token: one line, without blanks")
    return Webhook(url, secret, bearer)


def _content(path: Path, option: str) -> bytes:
    """Without the newline at its end."""
    try:
        content = path.read_bytes().strip()
    except OSError as exc:
        raise click.UsageError(f"{option}: {path}: {exc.strerror}") from None
    if not content:
        raise click.UsageError(f"{option}: {path} is empty")
    return content
