"""`zmqctl keys`: this node's own key, and those that it trusts. A secret key is made here, stays here and is never shown."""

import os
import pwd
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from openstack_zeromq.cli.settings import config_file, fail, read
from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys as key_files
from openstack_zeromq.security import trust, trust_folder
from openstack_zeromq.security.own import OwnKey, State


@click.group()
def keys() -> None:
    """This node's own key, and those that it trusts."""


@keys.command()
@config_file
@click.option("--replace", is_flag=True, help="Make another one, though there is one; a start or reload takes it into use.")
@click.option("--user", help="Whom the file belongs to, the receiver's user. Default: whose it was, or you.")
def new(config_files: tuple[str, ...], replace: bool, user: str | None) -> None:
    """Make the key of this node, trust it here, and print its public half.

    A key that is replaced stays trusted here beside the new one. Give the printed line to all other nodes before the receiver
    takes it into use.
    """
    settings = read(*config_files)
    own, public = OwnKey(Path(settings.key_file), settings.host), Path(settings.authorized_keys, f"{settings.host}{trust.SUFFIX}")
    if own.path.exists() and not replace:
        fail(f"{own.path} is there already, and {settings.host} would be another node with a new one; --replace makes it")
    try:
        for state in (State.NEXT, State.SWITCHED) if own.path.exists() else (State.PRESENT,):
            own.apply(own.plan(state))
        if user:
            _give(own.path, user)
        trusted = own.public()
        key_files.write_public(public, tuple(trusted), settings.host)
    except KeyFileError as exc:
        fail(str(exc))
    except OSError as exc:
        fail(f"{exc.filename}: {exc.strerror}")
    click.echo(trusted[0])


@keys.command()
@config_file
def show(config_files: tuple[str, ...]) -> None:
    """Print the public key of this node, which other nodes have as authorized/<host>.pub."""
    settings = read(*config_files)
    try:
        click.echo(key_files.read_secret(Path(settings.key_file)).public)
    except KeyFileError as exc:
        fail(str(exc))


@keys.command(name="list")
@config_file
def list_(config_files: tuple[str, ...]) -> None:
    """Whose keys this node trusts."""
    settings = read(*config_files)
    try:
        trusted = trust_folder.read(Path(settings.authorized_keys))
    except KeyFileError as exc:
        fail(str(exc))
    if not trusted.hosts:
        fail(f"{settings.authorized_keys} is empty: nobody is trusted; put the public key of each node there, as <host>.pub")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("host", "public key", ""):
        table.add_column(column)
    for host, its in trusted.hosts.items():
        for number, key in enumerate(its):
            note = "this node" if host == settings.host else ""
            table.add_row(Text(host if not number else ""), Text(key), Text(note if not number else "accepted, too", style="dim"))
    Console(highlight=False, soft_wrap=True).print(table)


def _give(secret: Path, user: str) -> None:
    try:
        os.chown(secret, pwd.getpwnam(user).pw_uid, -1)
    except KeyError:
        fail(f"{secret} was made, but there is no user {user}: chown it to the receiver's user")
    except OSError as exc:
        fail(f"{secret} was made, but cannot be given to {user} ({exc.strerror}): do so as root")
