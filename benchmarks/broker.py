"""Broker: a RabbitMQ of our own, from the Debian package, for the length of a run.

It listens on loopback only, on free ports, under a node name, a port mapper (epmd) and a directory of its own: a RabbitMQ that
the machine may already run is not touched. Installing the package leaves no service running either.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import amqp

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_PACKAGE = "rabbitmq-server"
_POLICY = Path("/usr/sbin/policy-rc.d")
_READY_WITHIN = 60.0
_ENDS_WITHIN = 20.0
_LOOK_EVERY = 0.2


class BrokerError(Exception):
    """There is no RabbitMQ to be had; the message says what to do."""


class Broker:
    """`start` makes `url` answer; `stop` leaves nothing behind but `directory`, which is its maker's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port, self._mapper_port, self._distribution_port = _free_ports(3)
        self.url = f"rabbit://guest:guest@127.0.0.1:{self._port}/"
        self.version = ""

    def start(self) -> None:
        """:raises BrokerError: it cannot be installed, or does not come up."""
        install()
        self._directory.mkdir()
        for name in ("empty.conf", "empty-env.conf", "plugins"):
            (self._directory / name).touch()
        (self._directory / "plugins").write_text("[].\n")
        environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ},
            "HOME": str(self._directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": f"bench-{secrets.token_hex(4)}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(self._directory / "empty-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "empty.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._directory / "data"),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_PID_FILE": str(self._directory / "pid"),
        }
        mapper = shutil.which("epmd") or "epmd"
        self._run(environment, mapper, "-address", "127.0.0.1", "-port", str(self._mapper_port))
        self._run(environment, str(SERVER))
        self._wait_until_it_answers()

    def pids(self) -> list[int]:
        """The processes that serve: RabbitMQ's, not the port mapper."""
        session = self._processes[-1].pid
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _session(entry) == session]

    def stop(self) -> None:
        for process in reversed(self._processes):
            _signal_group(process, signal.SIGTERM)
            try:
                process.wait(_ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()
            _signal_group(process, signal.SIGKILL)  # what it left behind

    def _run(self, environment: dict[str, str], *command: str) -> None:
        with (self._directory / "output.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while True:
            try:
                with amqp.Connection(f"127.0.0.1:{self._port}", connect_timeout=5) as connection:
                    self.version = str(connection.server_properties.get("version", ""))
                    return
            except (OSError, amqp.AMQPError) as exc:
                if time.monotonic() > deadline or self._processes[-1].poll() is not None:
                    said = (self._directory / "output.log").read_text(errors="replace")[-2000:]
                    raise BrokerError(f"RabbitMQ did not come up: {exc}\n{said}") from None
            time.sleep(_LOOK_EVERY)


def install() -> None:
    """Install the Debian package when it is missing, without starting its service.

    :raises BrokerError: this user cannot, or apt-get failed.
    """
    if SERVER.exists():
        return
    remedy = f"install it (sudo apt-get install --yes {_PACKAGE}), or leave it out: --only zmq,null,receiver"
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise BrokerError(f"RabbitMQ is not installed; {remedy}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _NoServices():
        for command in ([apt, "update", "-qq"], [apt, "install", "--yes", "-qq", "--no-install-recommends", _PACKAGE]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BrokerError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}; {remedy}")


class _NoServices:
    """While a package is installed, its services are not started (policy-rc.d); a policy that is there already stays."""

    def __enter__(self) -> None:
        self._ours = not _POLICY.exists()
        if self._ours:
            _POLICY.write_text("#!/bin/sh\nexit 101\n")
            _POLICY.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self._ours:
            _POLICY.unlink()


def _free_ports(count: int) -> list[int]:
    """Ports that are free on loopback now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _session(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(") ")[2].split()[3])
    except OSError:
        return None  # it ended meanwhile


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """To the process and its children; each has its own group."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
