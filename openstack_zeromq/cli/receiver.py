"""The receiver's entry point: read the options, bind everything, run; one line and status 1 when that cannot be."""

import logging as std_logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from oslo_config import cfg
from oslo_log import log as logging

from openstack_zeromq import options
from openstack_zeromq.cli.settings import found_files
from openstack_zeromq.errors import ConfigError, RingError, ZeroMQError
from openstack_zeromq.matchmaker import ring
from openstack_zeromq.receiver.loop import Receiver
from openstack_zeromq.security import acl
from openstack_zeromq.security.identity import identity

PROGRAM = "oslo-messaging-zmq-receiver"
LOG = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Exit status 0 after a clean stop, 1 when the receiver cannot run, 2 for a wrong command line."""
    try:
        run(sys.argv[1:] if arguments is None else arguments)
    except (ZeroMQError, cfg.Error) as exc:
        sys.exit(f"{PROGRAM}: {' '.join(str(exc).split())}")


def run(arguments: list[str]) -> None:
    """:raises ZeroMQError: with the remedy in its message."""
    conf = cfg.ConfigOpts()
    conf.register_cli_opt(cfg.BoolOpt("check", default=False, help="Check the configuration and the ring it names, and exit."))
    logging.register_options(conf)
    options.register(conf)
    options.register_store_url(conf)
    conf(arguments, project="openstack-zeromq", prog=PROGRAM, default_config_files=found_files())
    settings = options.settings(conf)
    slips = options.unknown_names(conf.config_file)
    if conf.check:
        if slips:
            raise ConfigError("; ".join(slips))
        identity(settings)
        acl.parse(settings.channel_acl)
        if settings.matchmaker == "ring":
            _check_ring(settings.ringfile)
        else:
            _check_state_dir(settings.state_dir)
        return
    logging.setup(conf, "openstack-zeromq")
    for slip in slips:
        LOG.warning(slip)
    os.umask(0o007)  # services reach the sockets as members of the directory's group
    receiver = Receiver(settings)
    receiver.on_signals()
    try:
        receiver.run()
    finally:
        ended = receiver.close()
    if not ended:
        _leave()


def _leave() -> NoReturn:
    """End with status 0 without waiting for threads: one asks a name server, which no thread can be kept from."""
    std_logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _check_ring(ringfile: str) -> None:
    try:
        ring.load(Path(ringfile))
    except RingError as exc:
        raise RingError(f"[matchmaker_ring] ringfile = {ringfile}: {exc}") from None


def _check_state_dir(state_dir: str) -> None:
    """Could it be made and written? Nothing is made."""
    there = next(path for path in (Path(state_dir), *Path(state_dir).parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "is no directory" if not there.is_dir() else "may not be written by this user"
        raise ConfigError(f"[{options.GROUP}] zmq_state_dir = {state_dir}: {there} {why}; choose another, or let this user write")
