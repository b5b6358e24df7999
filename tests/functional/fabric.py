"""A real fabric for tests: receivers as processes on loopback addresses, real oslo.messaging on top. Nothing is mocked.

Every fabric has its own short directory and its own port, so that several can run side by side.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing
from ports import free_port

from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.receiver import admin
from openstack_zeromq.security import keys

RECEIVER = str(Path(sys.executable).parent / "oslo-messaging-zmq-receiver")


def eventually(check: Callable[[], Any], within: float = 10.0) -> Any:
    """What `check` returns, as soon as it is true; AssertionError when it never is."""
    deadline = time.monotonic() + within
    while not (answer := check()):
        assert time.monotonic() < deadline, f"not within {within} s: {check}"
        time.sleep(0.01)
    return answer


def inner(pid: int) -> int:
    """The process that `pid` (`unshare`) has started."""
    children: str = eventually(Path(f"/proc/{pid}/task/{pid}/children").read_text)
    return int(children.split(maxsplit=1)[0])


@dataclass
class Fabric:
    """`nodes` nodes n1, n2, … on 127.0.1.1, …; `ring` is what their matchmakers know."""

    nodes: int = 2
    ring: Mapping[str, Iterable[str]] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Further groups of zeromq.conf: a store's."""
    program: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What is run as the receiver of a node, where it is not the shipped program."""

    under: Sequence[str] = ()
    """What receivers are started by, for a namespace of their own."""

    def __post_init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="oz", dir="/tmp"))
        self.addresses = {f"n{number}": f"127.0.1.{number}" for number in range(1, self.nodes + 1)}
        self.port = free_port(self.addresses.values())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stops: list[Callable[[], None]] = []
        self.write_ring(self.ring)
        for node in self.addresses:
            self.write_key(node)

    # nodes

    def write_ring(self, ring: Mapping[str, Iterable[str]], others: Mapping[str, str] | None = None) -> None:
        """Replace every node's ring; `others` are addresses of hosts that are none of these nodes."""
        data = ring_file.render(ring)
        addresses = {**self.addresses, **(others or {})}
        hosts = {name: {"address": address, "port": self.port} for name, address in addresses.items()}
        path = self.directory / "ring.json"
        ring_file.write(ring_file.meta_path(path), ring_file.render_meta(data, hosts, "test"))
        ring_file.write(path, data)

    def write_key(self, node: str) -> None:
        """A key for `node`, which all nodes trust."""
        pair = keys.new()
        keys.write_secret(self.secret_file(node), pair, node)
        keys.write_public(self.public_file(node), (pair.public,), node)

    def secret_file(self, node: str) -> Path:
        return self.directory / "keys" / f"{node}.key"

    def public_file(self, node: str) -> Path:
        return self.directory / "authorized" / f"{node}.pub"

    def pair_of(self, node: str) -> keys.KeyPair:
        return keys.read_secret(self.secret_file(node))

    def key_of(self, node: str) -> str:
        return keys.read_public(self.public_file(node))[0]

    def door(self, node: str) -> str:
        """Where `node` listens."""
        return f"tcp://{self.addresses[node]}:{self.port}"

    def config_file(self, node: str, **more: object) -> Path:
        """The node's zeromq.conf, written anew."""
        settings = {
            "rpc_zmq_host": node,
            "rpc_zmq_bind_address": self.addresses[node],
            "rpc_zmq_port": self.port,
            "rpc_zmq_ipc_dir": self.ipc_dir(node),
            "zmq_state_dir": self.directory / "state" / node,
            "rpc_zmq_matchmaker": "ring",
            "zmq_key_file": self.secret_file(node),
            "zmq_authorized_keys": self.directory / "authorized",
            **self.options,
            **more,
        }
        lines = ["[oslo_messaging_zmq]", *(f"{name} = {value}" for name, value in settings.items())]
        lines += ["[matchmaker_ring]", f"ringfile = {self.directory / 'ring.json'}"]
        for section, values in self.sections.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        path = self.directory / f"{node}.conf"
        ring_file.write(path, ("\n".join(lines) + "\n").encode())
        return path

    def ipc_dir(self, node: str) -> Path:
        return self.directory / node

    def start(self, *nodes: str) -> None:
        """Start receivers (all of them by default) and wait until they answer."""
        for node in nodes or self.addresses:
            with self.log(node).open("ab") as log:
                command = [*self.under, *self.program.get(node, [RECEIVER]), "--config-file", str(self.config_file(node))]
                self.processes[node] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for node in nodes or self.addresses:
            eventually(lambda node=node: self.status(node))

    def log(self, node: str) -> Path:
        return self.directory / f"{node}.log"

    def status(self, node: str) -> dict[str, Any] | None:
        """What the receiver says of itself; None while it is not there."""
        try:
            return admin.ask(str(self.ipc_dir(node)))
        except (OSError, json.JSONDecodeError):
            return None

    def hosts(self, node: str, topic: str) -> list[str] | None:
        """Who serves `topic`, as the receiver of `node` knows; None: it does not know."""
        answer = admin.ask(str(self.ipc_dir(node)), "hosts", topic)
        return sorted(answer["hosts"]) if answer["known"] else None

    def counter(self, node: str, name: str) -> int:
        status = self.status(node)
        assert status is not None, f"{node} does not answer"
        return int(status["counters"][name])

    def kill(self, node: str) -> None:
        """kill -9, and wait for the end."""
        self.processes[node].kill()
        self.processes[node].wait()

    def stop(self, node: str) -> int:
        """SIGTERM; the exit status."""
        self.processes[node].send_signal(signal.SIGTERM)
        return self.processes[node].wait(10)

    # services

    def conf(self, node: str) -> cfg.ConfigOpts:
        """A service's configuration on `node`."""
        conf = cfg.ConfigOpts()
        conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
        conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
        conf(["--config-file", str(self.config_file(node))], project="test")
        return conf

    def transport(self, node: str, **options: Any) -> oslo_messaging.transport.RPCTransport:
        made = oslo_messaging.get_rpc_transport(self.conf(node), "zmq://", **options)
        self._stops.append(made.cleanup)
        return made

    def client(self, node: str, topic: str, timeout: float = 10.0, **target: Any) -> oslo_messaging.RPCClient:
        return oslo_messaging.get_rpc_client(self.transport(node), oslo_messaging.Target(topic=topic, **target), timeout=timeout)

    def server(
        self, node: str, topic: str, endpoint: object, server: str = "", **target: Any
    ) -> oslo_messaging.MessageHandlingServer:
        """Start an RPC server; stopped with the fabric."""
        made = oslo_messaging.get_rpc_server(
            self.transport(node),
            oslo_messaging.Target(topic=topic, server=server or node, **target),
            [endpoint],
            executor="threading",
        )
        return self._run(made)

    def notifier(self, node: str, topic: str) -> oslo_messaging.Notifier:
        transport = oslo_messaging.get_notification_transport(self.conf(node), "zmq://")
        self._stops.append(transport.cleanup)
        return oslo_messaging.Notifier(transport, publisher_id=node, driver="messagingv2", topics=[topic], retry=-1)

    def notification_listener(self, node: str, topic: str, endpoint: object, **options: Any) -> Any:
        transport = oslo_messaging.get_notification_transport(self.conf(node), "zmq://")
        self._stops.append(transport.cleanup)
        made = oslo_messaging.get_notification_listener(
            transport, [oslo_messaging.Target(topic=topic)], [endpoint], executor="threading", allow_requeue=True, **options
        )
        return self._run(made)

    def batch_listener(self, node: str, topic: str, endpoint: object, **options: Any) -> Any:
        """A listener that gets lists of notifications."""
        transport = oslo_messaging.get_notification_transport(self.conf(node), "zmq://")
        self._stops.append(transport.cleanup)
        made = oslo_messaging.get_batch_notification_listener(
            transport, [oslo_messaging.Target(topic=topic)], [endpoint], executor="threading", **options
        )
        return self._run(made)

    def close(self) -> None:
        """Stop everything that was started here."""
        for stop in reversed(self._stops):
            stop()
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(inner(process.pid) if self.under else process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        shutil.rmtree(self.directory)

    def _run(self, server: Any) -> Any:
        server.start()

        def stop() -> None:
            server.stop()
            server.wait()

        self._stops.append(stop)
        return server
