"""`zmqctl ring sync`: the store's topics -> this node's ring, once with a diff, or for ever.

Exit status: 0 the ring is as the store and the rules want it (with --check: and was so before), 3 with --check: it would
change, 1 it could not be done, and the ring is as it was; 2 usage.
"""

import asyncio
import contextlib
import grp
import pwd
import shlex
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.text import Text

from openstack_zeromq import systemd
from openstack_zeromq.address import compact
from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.sync import Plan, Sync, Written
from openstack_zeromq.catalog.telling import Teller, Telling
from openstack_zeromq.cli.ring_text import changed, kept_back
from openstack_zeromq.cli.settings import config_file, fail, read
from openstack_zeromq.errors import ConfigError, ZeroMQError
from openstack_zeromq.matchmaker import choose
from openstack_zeromq.matchmaker.store import Store
from openstack_zeromq.options import RING_GROUP, Settings

if TYPE_CHECKING:
    from openstack_zeromq.catalog.copy import Publisher

FINISH_WITHIN = 5.0
"""Seconds that a command of --exec has at the end of a watch."""


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in the stubs of newer releases only
    """Seconds, `2s`, `500ms` or `1m`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
        try:
            seconds = float(text.removesuffix(unit)) * _UNITS.get(unit, 1.0)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= 86_400:
            self.fail(f"{text!r} is no time; write 2s, 500ms, 1m or 0", param, ctx)
        return seconds


class Mode(click.ParamType):  # type: ignore[type-arg]
    """Permissions in octal."""

    name = "mode"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            mode = int(str(value), 8)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0o777:
            self.fail(f"{value!r} is no mode; write 0644", param, ctx)
        return mode


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for, besides the plan."""

    settings: Settings
    check: bool
    watch: bool
    within: float
    telling: Telling
    publish: bool
    from_kv: bool


@click.command()
@config_file
@click.option("--topic", "topics", multiple=True, help="A topic of interest; again for more. Default: [matchmaker_ring] topics.")
@click.option("--store", type=click.Choice(["consul", "redis", "sentinel"]), default="consul", show_default=True)
@click.option("--ringfile", type=click.Path(path_type=Path), help="The ring. Default: [matchmaker_ring] ringfile.")
@click.option("--check", is_flag=True, help="Show what would change and write nothing; exit 3 if anything would.")
@click.option("--watch", is_flag=True, help="Stay, and follow every change until SIGTERM; SIGHUP syncs at once.")
@click.option("--within", type=Duration(), default="10s", show_default=True, help="Once: how long the store may take to answer.")
@click.option(
    "--quiet-for", type=Duration(), default="2s", show_default=True, help="Watch: write when nothing changed for so long,"
)
@click.option("--at-most", type=Duration(), default="10s", show_default=True, help="but at the latest so long after a change.")
@click.option("--prune", is_flag=True, help="Drop topics from the ring that are not of interest.")
@click.option(
    "--exec", "command", default="", help="Run this (without a shell) after a change; ZMQ_RING_CHANGED_TOPICS names it."
)
@click.option("--webhook", default="", help="POST the change as JSON to this URL.")
@click.option("--publish", is_flag=True, help="Put the ring into one key of Consul, too, for nodes that sync --from-kv.")
@click.option("--from-kv", is_flag=True, help="Take the ring that another node publishes, instead of asking for each topic.")
@click.option("--owner", default="", help="User that the ring is to belong to. Default: as it is.")
@click.option("--group", default="", help="Its group. Default: as it is.")
@click.option("--mode", type=Mode(), help="Its mode. Default: as it is, 0644 for a new ring.")
def sync(config_files: tuple[str, ...], *, check: bool, watch: bool, **given: Any) -> None:
    """Write what a store says of the topics of interest into the ring, once or (--watch) for ever.

    Hosts that are added come in at once. Losses that look like an accident are held: zmqctl ring held.
    """
    if check and watch:
        raise click.UsageError("--check and --watch exclude each other")
    if (given["publish"] or given["from_kv"]) and (given["store"] != "consul" or given["publish"] == given["from_kv"]):
        raise click.UsageError("--publish and --from-kv exclude each other, and need --store consul")
    settings = read(*config_files, logs=watch)
    store = given["store"]
    if store == "sentinel" and not settings.redis.sentinels:
        fail("[matchmaker_redis] sentinel_hosts: name the Sentinels, for instance s1:26379,s2:26379,s3:26379")
    disk = Disk(given["ringfile"] or Path(settings.ringfile), _user(given["owner"]), _group(given["group"]), given["mode"])
    topics = _topics(given["topics"] or settings.ring_topics)
    plan = Plan(disk, topics, choose.rules(settings), given["quiet_for"], given["at_most"], given["prune"])
    telling = Telling(disk.path, settings.host, tuple(_command(given["command"])), _url(given["webhook"]))
    wish = Wish(replace(settings, matchmaker=store), check, watch, given["within"], telling, given["publish"], given["from_kv"])
    try:
        sys.exit(asyncio.run(_sync(plan, wish)))
    except ZeroMQError as exc:
        fail(f"{exc}; the ring {disk.path} is as it was")
    except OSError as exc:
        fail(f"{disk.path}: {exc.strerror or exc}; the ring is as it was")


async def _sync(plan: Plan, wish: Wish) -> int:
    """The exit status."""
    async with contextlib.AsyncExitStack() as open_until_the_end:
        store = _store(wish)
        open_until_the_end.push_async_callback(store.close)
        publisher = _publisher(plan, wish)
        if publisher is not None:
            open_until_the_end.push_async_callback(publisher.close)
        teller = Teller(wish.telling)

        def written(done: Written) -> None:
            teller.written(done)
            if publisher is not None:
                publisher.written()

        work = Sync(plan, store, written)
        if wish.watch:
            await _watch(work, publisher)
            await teller.finish(FINISH_WITHIN)
            return 0
        status = await _once(work, plan, wish)
        if publisher is not None and not wish.check:
            click.echo(await publisher.publish() or "published")
        await teller.finish(float("inf"))
        return status


def _store(wish: Wish) -> Store:
    return _copy().CopyStore(wish.settings) if wish.from_kv else choose.store(wish.settings)


def _publisher(plan: Plan, wish: Wish) -> "Publisher | None":
    return _copy().Publisher(wish.settings, plan.disk) if wish.publish else None


def _copy() -> ModuleType:
    """:raises ConfigError: Consul's library is not installed."""
    try:
        from openstack_zeromq.catalog import copy  # noqa: PLC0415 - only who uses it needs it
    except ImportError as exc:
        raise ConfigError(f"{exc}; pip install 'openstack-zeromq[consul]'") from None
    return copy


async def _once(work: Sync, plan: Plan, wish: Wish) -> int:
    await work.hear(wish.within)
    outlook = work.outlook()
    same = outlook.published.says() == outlook.before.says()
    if wish.check:
        _show(outlook, plan, "is as it should be" if same else "would change")
        return 0 if same else 3
    done = work.write()
    work.released()
    _show(done or outlook, plan, "written" if done else "is as it should be")
    return 0


async def _watch(work: Sync, publisher: "Publisher | None") -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        work.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, work.resync)
    publishing = None if publisher is None else asyncio.create_task(publisher.run())
    systemd.notify("READY=1")
    await work.watch(stop)
    systemd.notify("STOPPING=1")
    if publishing is not None:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


def _show(outlook: Written, plan: Plan, verdict: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in changed(outlook.changes):
        console.print(line)
    moved = sorted(
        host for host, endpoint in outlook.published.hosts.items() if outlook.before.hosts.get(host, endpoint) != endpoint
    )
    for host in moved:
        old, new = outlook.before.hosts[host], outlook.published.hosts[host]
        console.print(
            Text(f"~ {host} moves from {old.address}:{old.port or '-'} to {new.address}:{new.port or '-'}", style="yellow")
        )
    for line in kept_back(outlook.published.held, f"zmqctl ring release --ringfile {plan.disk.path}"):
        console.print(line)
    others = sorted({shape.topic_of(key) for key in outlook.published.ring} - set(plan.topics))
    if others:
        console.print(Text(f"not of interest, left as they are: {', '.join(others)} (--prune drops them)", style="dim"))
    console.print(f"{plan.disk.path}: {verdict}, keys {len(outlook.published.ring)}, from {outlook.published.source}")


def _topics(named: tuple[str, ...]) -> tuple[str, ...]:
    if not named:
        fail(f"no topic is of interest: name some with --topic, or in [{RING_GROUP}] topics")
    for topic in named:
        if not shape.is_topic(topic):
            fail(f"{topic!r} cannot be a topic of a ring: a name without a colon or white space around it")
    return tuple(dict.fromkeys(compact(topic) for topic in named))


def _command(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise click.UsageError(f"--exec: {exc}") from None


def _url(text: str) -> str:
    if text and (urlsplit(text).scheme not in {"http", "https"} or not urlsplit(text).netloc):
        raise click.UsageError(f"--webhook: {text!r} is no http:// or https:// URL")
    return text


def _user(name: str) -> int | None:
    try:
        return None if not name else int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise click.UsageError(f"--owner: there is no user {name}") from None


def _group(name: str) -> int | None:
    try:
        return None if not name else int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise click.UsageError(f"--group: there is no group {name}") from None
