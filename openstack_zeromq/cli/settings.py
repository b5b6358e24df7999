"""The node's configuration, for the commands of zmqctl; what is wrong with it is one line and status 1."""

import sys
from typing import NoReturn

import click
from oslo_config import cfg
from oslo_log import log

from openstack_zeromq import options
from openstack_zeromq.errors import ZeroMQError

config_file = click.option(
    "--config-file", required=True, type=click.Path(exists=True, dir_okay=False), help="The node's zeromq.conf."
)


def read(file: str, *, logs: bool = False) -> options.Settings:
    """The settings in `file`; with `logs` this process logs as it says."""
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    try:
        log.register_options(conf)
        conf(["--config-file", file], project="openstack-zeromq", prog="zmqctl", default_config_dirs=[])
        if logs:
            log.setup(conf, "openstack-zeromq")
        return options.settings(conf)
    except (ZeroMQError, cfg.Error) as exc:
        fail(str(exc))


def fail(why: str, status: int = 1) -> NoReturn:
    """End with one line that says what to do."""
    click.echo(f"zmqctl: {' '.join(why.split())}", err=True)
    sys.exit(status)
