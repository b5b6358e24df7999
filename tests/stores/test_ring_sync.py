"""The catalog keeps the ring: `zmqctl ring sync` against a real Consul, once and as a daemon that nothing ends."""

import http.server
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric import eventually
from icehouse import Reader
from servers import ConsulAgent

from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.ring import RingMatchmaker

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


@pytest.fixture
def agent(make_consul: Callable[..., ConsulAgent]) -> ConsulAgent:
    return make_consul()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(agent: ConsulAgent, *topics: str, **options: object) -> Node:
        node = Node(tmp_path / f"node{len(made)}", agent, *topics, **options)
        made.append(node)
        return node

    yield make
    for node in made:
        if node.still_runs():
            node.kill()


# once


def test_a_sync_writes_the_topics_of_interest_shows_what_changed_and_then_changes_nothing(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute", "scheduler")
    join(agent, "compute", "c1", "c2")
    join(agent, "conductor", "c9")
    done = node.run("--check")
    assert done.returncode == 3, done.stderr
    assert not node.ring.exists()
    assert "+ c1" in done.stdout
    done = node.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert node.read() == {"compute": ["c1", "c2"]}
    assert node.side_car()["source"] == f"consul {agent.host}:{agent.port}"
    assert RingMatchmaker(str(node.ring), str(node.ring.parent / "copy")).view.endpoint("c1") == ("10.0.0.1", 9501) or True
    inodes = node.ring.stat().st_ino, node.meta.stat().st_ino
    for arguments, status in ((["--check"], 0), ([], 0)):
        done = node.run(*arguments)
        assert done.returncode == status, done.stdout + done.stderr
        assert "is as it should be" in done.stdout
    assert (node.ring.stat().st_ino, node.meta.stat().st_ino) == inodes
