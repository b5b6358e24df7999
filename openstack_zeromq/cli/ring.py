"""`zmqctl ring`: look at a ring, check it, compare it, and let go of what is held back."""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openstack_zeromq.catalog import release as requests
from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.changes import Change, changes
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.shape import Held, Published
from openstack_zeromq.cli.ring_sync import sync
from openstack_zeromq.cli.ring_text import changed, kept_back
from openstack_zeromq.cli.settings import config_file, default_files, fail, read
from openstack_zeromq.errors import NoReceiverError, RingError
from openstack_zeromq.matchmaker import ring as ring_matchmaker
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.options import Settings
from openstack_zeromq.receiver import admin

_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}

_STORES = {"redis", "sentinel", "consul"}

_ringfile = click.option("--ringfile", type=click.Path(path_type=Path), help="The ring; or name the configuration that names it.")


@click.group()
def ring() -> None:
    """The ring: which hosts serve a topic, as a file."""


ring.add_command(sync)


@ring.command()
@_ringfile
@config_file
def show(ringfile: Path | None, config_files: tuple[str, ...]) -> None:
    """The topics of a ring, their hosts, and what is held back."""
    path, settings = _which(ringfile, config_files)
    published = _published(path)
    console = Console(highlight=False, soft_wrap=True)
    if settings is not None and settings.matchmaker != "ring":
        console.print(
            Text(
                f"the receiver of this node does not read it: its matchmaker is {settings.matchmaker}; zmqctl hosts asks that. If"
                " nothing else reads the file, remove it",
                style="yellow",
            )
        )
    source = f"from {published.source}, generation {published.generation}" if published.source else "no side-car counts for it"
    console.print(Text.assemble((str(path), "bold"), f"  {source}"))
    if published.problem:
        console.print(Text(f"may be old: {published.problem}", style="red"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("topic", "hosts", "held"):
        table.add_column(column, overflow="fold")
    for key, hosts in sorted(published.ring.items()):
        held = published.held.get(key)
        table.add_row(Text(key), Text(", ".join(hosts)), Text(", ".join(held.hosts), style="yellow") if held else "")
    console.print(table)


@ring.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def validate(files: tuple[Path, ...]) -> None:
    """Check rings and their side-cars; exit 1 if one has a fault."""
    faults = 0
    for file in files:
        fault = _fault(file)
        faults += bool(fault)
        click.echo(f"{file}: {fault or _good(file)}", err=bool(fault))
    sys.exit(1 if faults else 0)


@ring.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def diff(before: Path, after: Path) -> None:
    """What turns the ring BEFORE into AFTER; exit 0 when they say the same, 1 when not."""
    found: list[Change] = changes(_published(before).ring, _published(after).ring)
    for line in changed(found):
        Console(highlight=False, soft_wrap=True).print(line)
    sys.exit(1 if found else 0)


@ring.command()
@_ringfile
@config_file
def held(ringfile: Path | None, config_files: tuple[str, ...]) -> None:
    """What the store has lost and is kept nevertheless: why, since when, and how to let it go."""
    path, settings = _which(ringfile, config_files)
    if settings is not None and settings.matchmaker in _STORES:
        kept, how = (
            _held_by_receiver(settings),
            " ".join(["zmqctl ring release", *(f"--config-file {file}" for file in config_files)]),
        )
    else:
        kept, how = _published(path).held, f"zmqctl ring release --ringfile {path}"
    console = Console(highlight=False, soft_wrap=True)
    for line in kept_back(kept, how):
        console.print(line)
    if not kept:
        console.print("nothing is held")


@ring.command()
@click.argument("topic")
@_ringfile
@config_file
def release(topic: str, ringfile: Path | None, config_files: tuple[str, ...]) -> None:
    """Accept that the hosts of TOPIC which are held are gone."""
    path, settings = _which(ringfile, config_files)
    if settings is not None and settings.matchmaker in _STORES:
        if not _ask(settings, "release", topic).get("released"):
            fail(f"nothing of {topic} is held; zmqctl ring held shows what is")
        click.echo(f"{topic}: released")
        return
    if topic not in _published(path).held:
        fail(f"nothing of {topic} is held; zmqctl ring held shows what is")
    try:
        requests.ask(path, topic)
    except OSError as exc:
        fail(f"{path.parent}: {exc.strerror}; run it as a user who may write there")
    click.echo(f"{topic}: asked for; zmqctl ring sync --watch does it within a second, without it the next zmqctl ring sync")


@ring.command()
@config_file
def missing(config_files: tuple[str, ...]) -> None:
    """Ask all nodes which of their topics the ring lacks, and print what to add to the inventory.

    Exit 0: nothing; 1: something is missing; 2: nothing is known to be missing, but some nodes did not answer.
    """
    answer = _ask(read(*config_files), "missing")
    lacking, silent = answer["missing"], answer["silent"]
    for host in silent:
        click.echo(f"{host} did not answer; zmqctl status shows its link", err=True)
    if not lacking:
        click.echo(f"# the rings of {answer['nodes'] - len(silent)} nodes lack nothing")
        sys.exit(2 if silent else 0)
    click.echo("# Add these to the topics of the inventory; a group that has just these nodes may stand for them.")
    click.echo("zeromq_matchmaker_topics:")
    for topic, hosts in lacking.items():
        click.echo(f"  {_yaml_key(topic)}: [{', '.join(map(_yaml_key, hosts))}]")
    sys.exit(1)


def _yaml_key(name: str) -> str:
    """Return `name` as a plain scalar of YAML, or quoted where a plain one would be something else."""
    plain = re.fullmatch(r"[A-Za-z_][\w.@/-]*", name, re.ASCII) and name.lower() not in _YAML_WORDS
    return name if plain else json.dumps(name)


def _which(ringfile: Path | None, config_files: tuple[str, ...]) -> tuple[Path, Settings | None]:
    named = config_files or (() if ringfile else tuple(default_files()))
    settings = read(*named) if named else None
    if ringfile is None and settings is None:
        raise click.UsageError("name the ring: --ringfile or --config-file")
    return ringfile or Path(settings.ringfile if settings else ""), None if ringfile else settings


def _published(path: Path) -> Published:
    try:
        found = Disk(path).read()
    except (OSError, RingError) as exc:
        fail(f"{path}: {exc}; zmqctl ring validate says more")
    if found is None:
        fail(f"{path}: there is no such file; zmqctl ring sync writes one")
    return found


def _held_by_receiver(settings: Settings) -> Mapping[str, Held]:
    now = datetime.now(UTC).timestamp()
    kept = _ask(settings, "status")["matchmaker"].get("held", {})
    return {topic: Held(tuple(one["hosts"]), one["why"], round(now - one["for_s"])) for topic, one in kept.items()}


def _ask(settings: Settings, question: str, topic: str = "") -> dict[str, Any]:
    try:
        return admin.answer_of(settings.ipc_dir, question, topic)
    except NoReceiverError as exc:
        fail(str(exc))


def _good(path: Path) -> str:
    """What a file without a fault is."""
    return "a side-car that counts, beside a whole ring" if ring_file.is_meta(ring_matchmaker.contents(path)) else "a whole ring"


def _fault(path: Path) -> str:
    """The first thing that is wrong with a ring and its side-car; empty: nothing."""
    try:
        data = ring_matchmaker.contents(path)
        _strict(data)
        if ring_file.is_meta(data):
            return _fault_of_side_car(path, data)
        ring_file.parse(data)
    except (OSError, RingError) as exc:
        return _why(exc)
    meta = ring_file.meta_path(path)
    try:
        side_car = ring_matchmaker.contents(meta)
        shape.parse(data, side_car)
        ring_file.check_meta(side_car)
        belongs = shape.belongs(ring_file.load_meta(side_car), data)
    except FileNotFoundError:
        return ""
    except (OSError, RingError) as exc:
        return f"its side-car {meta.name}: {_why(exc)}"
    return "" if belongs else f"its side-car {meta.name} has the sha256 of another ring and does not count; sync or deploy again"


def _fault_of_side_car(path: Path, data: bytes) -> str:
    """The first thing that is wrong with a side-car that was named instead of its ring."""
    ring_file.check_meta(data)
    name = path.name.replace(".meta.", ".")
    if name == path.name:
        return "this is a side-car, not a ring; it counts only beside its ring, as <ring>.meta.json"
    return _fault(path.with_name(name))


def _why(exc: OSError | RingError) -> str:
    return exc.strerror or str(exc) if isinstance(exc, OSError) else str(exc)


def _strict(data: bytes) -> None:
    """:raises RingError: with line and column; or a topic is there twice, of which readers see the last only."""

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise RingError(f"ring topic {key!r} is there twice")
            seen[key] = value
        return seen

    try:
        json.loads(data, object_pairs_hook=once)
    except json.JSONDecodeError as exc:
        raise RingError(f"line {exc.lineno} column {exc.colno}: {exc.msg}") from None
    except (ValueError, RecursionError):
        return  # `parse` says it better
