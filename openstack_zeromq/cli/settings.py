"""The node's configuration, for our commands; what is wrong with it is one line and status 1.

It may lie in several files, of which a later one wins: what everybody may read, and what only the receiver and root may, which is
the matchmaker's part, for it can hold passwords.
"""

import os
import sys
from typing import NoReturn

import click
from oslo_config import cfg
from oslo_log import log

from openstack_zeromq import options
from openstack_zeromq.errors import ZeroMQError

config_file = click.option(
    "--config-file",
    "config_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="A file of the node's configuration; again for more, the last one wins."
    " Default: /etc/oslo/zeromq.conf and, if you may read it, /etc/oslo/zeromq-matchmaker.conf.",
)


def found_files() -> list[str]:
    """oslo.conf, zeromq.conf and zeromq-matchmaker.conf, where oslo.config looks for them: mostly /etc/oslo."""
    files = [file for name in ("zeromq", "zeromq-matchmaker") for file in cfg.find_config_files(project="oslo", prog=name)]
    return list(dict.fromkeys(files))


def default_files() -> list[str]:
    """What counts for a command when no file is named: all that is found, but no zeromq-matchmaker.conf that this user may not
    read. Most commands only ask the receiver."""
    return [file for file in found_files() if os.access(file, os.R_OK) or not file.endswith("-matchmaker.conf")]


def read(*files: str, logs: bool = False) -> options.Settings:
    """The settings in `files`, or in the default ones; with `logs` this process logs as they say."""
    named = list(files) or default_files()
    if not named:
        fail("there is no /etc/oslo/zeromq.conf; write it, or name the node's configuration with --config-file")
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    try:
        log.register_options(conf)
        conf([], project="openstack-zeromq", prog="zmqctl", default_config_files=named, default_config_dirs=[])
        if logs:
            log.setup(conf, "openstack-zeromq")
        return options.settings(conf)
    except (ZeroMQError, cfg.Error) as exc:
        fail(str(exc))


def fail(why: str, status: int = 1) -> NoReturn:
    """End with one line that says what to do."""
    click.echo(f"zmqctl: {' '.join(why.split())}", err=True)
    sys.exit(status)
