"""A node whose ring is kept by `zmqctl ring sync`, for tests: its files, its daemon, and what receivers would register."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fabric import eventually
from icehouse import Reader
from servers import ConsulAgent

from openstack_zeromq.matchmaker import ring_file

ZMQCTL = str(Path(sys.executable).parent / "zmqctl")


class Node:
    """A node's ring and configuration, and the sync that keeps it."""

    def __init__(self, directory: Path, agent: ConsulAgent, *topics: str, **options: object) -> None:
        self.agent = agent
        self.ring = directory / "etc" / "matchmaker_ring.json"
        self.meta = ring_file.meta_path(self.ring)
        self.ring.parent.mkdir(parents=True)
        self.log = directory / "sync.log"
        self.config = directory / "zeromq.conf"
        node = {"rpc_zmq_host": "n1", "rpc_zmq_ipc_dir": directory / "ipc", "zmq_state_dir": directory / "state", **options}
        groups = {
            "oslo_messaging_zmq": node,
            "matchmaker_ring": {"ringfile": self.ring, "topics": ",".join(topics)},
            "matchmaker_consul": {"host": agent.host, "port": agent.port, "token": agent.token_management or ""},
        }
        lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in of.items()) for group, of in groups.items()]
        self.config.write_text("".join(lines))
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """`zmqctl ring sync …`, once."""
        return zmqctl("ring", "sync", "--config-file", self.config, *arguments)

    def watch(self, *arguments: object, **more: Any) -> None:
        """Start the daemon; it writes at once unless told otherwise."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [ZMQCTL, "ring", "sync", "--config-file", self.config, "--watch", *(map(str, arguments or ("--quiet-for", "0")))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **more,
            )

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def read(self) -> dict[str, list[str]]:
        """The ring, as an old reader sees it."""
        if not self.ring.exists():
            return {}
        data = self.ring.read_bytes()
        Reader(data)
        return json.loads(data)

    def side_car(self) -> dict[str, Any]:
        return json.loads(self.meta.read_bytes())

    def has(self, topic: str, *hosts: str) -> None:
        """Wait until the ring has exactly these hosts for the topic."""
        try:
            eventually(lambda: self.read().get(topic, []) == list(hosts))
        except AssertionError as exc:
            raise AssertionError(f"{topic}: {self.read().get(topic)} and not {hosts}; {self.log.read_text()}") from exc

    def says(self, text: str) -> None:
        eventually(lambda: text in self.log.read_text())

    def still_runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


def zmqctl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ZMQCTL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def join(agent: ConsulAgent, topic: str, *hosts: str) -> None:
    """What receivers register for their nodes."""
    for number, host in enumerate(hosts, 1):
        agent.register(
            topic, f"{topic}-{host}", host, meta={"zmq_host": host, "zmq_port": "9501"}, address=f"10.0.0.{number}", port=9501
        )


def leave(agent: ConsulAgent, topic: str, *hosts: str) -> None:
    for host in hosts:
        agent.deregister(f"{topic}-{host}", host)
