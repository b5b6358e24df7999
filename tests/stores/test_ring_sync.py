"""The catalog keeps the ring: `zmqctl ring sync` against a real Consul, once and as a daemon that nothing ends."""

import asyncio
import ctypes
import dataclasses
import http.server
import json
import os
import resource
import signal
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fabric import eventually
from icehouse import Reader
from ring_node import Node, join, leave, zmqctl
from servers import ConsulAgent, RedisServer

from openstack_zeromq.cli.settings import read
from openstack_zeromq.matchmaker import choose, ring_file
from openstack_zeromq.matchmaker.base import Registration
from openstack_zeromq.matchmaker.ring import load


@pytest.fixture
def agent(make_consul: Callable[..., ConsulAgent]) -> ConsulAgent:
    return make_consul()


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
    assert load(node.ring).endpoint("c1") == ring_file.Endpoint("10.0.0.1", 9501)
    inodes = node.ring.stat().st_ino, node.meta.stat().st_ino
    for arguments, status in ((["--check"], 0), ([], 0)):
        done = node.run(*arguments)
        assert done.returncode == status, done.stdout + done.stderr
        assert "is as it should be" in done.stdout
    assert (node.ring.stat().st_ino, node.meta.stat().st_ino) == inodes


def test_a_topic_that_is_not_of_interest_stays_until_it_is_pruned(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    ring = ring_file.render({"scheduler": ["s1"], "compute": ["c1"]})
    ring_file.write(node.meta, ring_file.render_meta(ring, {"s1": {"address": "10.1.1.1", "port": 1}}, "ansible"))
    ring_file.write(node.ring, ring)
    assert node.run().returncode == 0
    assert node.read() == {"compute": ["c1"], "scheduler": ["s1"]}
    assert load(node.ring).endpoint("s1") == ring_file.Endpoint("10.1.1.1", 1)
    done = node.run("--prune")
    assert "- s1" in done.stdout
    assert node.read() == {"compute": ["c1"]}


def test_a_loss_that_looks_like_an_accident_is_held_from_one_run_to_the_next_until_it_is_released(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1", "c2")
    assert node.run().returncode == 0
    leave(agent, "compute", "c1", "c2")
    for _ in range(2):
        done = node.run()
        assert done.returncode == 0
        assert "held: c1, c2" in done.stdout
        assert node.read() == {"compute": ["c1", "c2"]}
    held = zmqctl("ring", "held", "--config-file", node.config)
    assert "no host is left" in held.stdout
    assert f"zmqctl ring release --ringfile {node.ring} compute" in held.stdout
    assert zmqctl("ring", "release", "--ringfile", node.ring, "conductor").returncode == 1
    assert zmqctl("ring", "release", "--ringfile", node.ring, "compute").returncode == 0
    assert node.run("--check").returncode == 3
    assert node.read() == {"compute": ["c1", "c2"]}, "a check takes nothing"
    assert node.run().returncode == 0
    assert node.read() == {}
    assert [path.name for path in node.ring.parent.iterdir() if ".release." in path.name] == []


def test_a_shrink_that_is_held_is_believed_by_a_run_after_its_time(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", *(f"c{number}" for number in range(1, 8)))
    assert node.run().returncode == 0
    leave(agent, "compute", "c1", "c2", "c3", "c4", "c5")
    assert "more than half" in node.run().stdout
    assert len(node.read()["compute"]) == 7
    facts = node.side_car()
    for when in ("since", "until"):
        facts["held"]["compute"][when] -= 61  # a minute later
    node.meta.write_text(json.dumps(facts))
    assert node.run().returncode == 0
    assert node.read() == {"compute": ["c6", "c7"]}


def test_without_a_store_a_sync_says_so_and_leaves_the_ring(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    assert node.run().returncode == 0
    before = node.ring.read_bytes(), node.meta.read_bytes()
    agent.stop()
    done = node.run("--within", "1s")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the ring" in done.stderr
    assert (node.ring.read_bytes(), node.meta.read_bytes()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quiet-for", "soon"], "is no time"),
        (["--mode", "0999"], "is no mode"),
        (["--webhook", "ftp://x"], "is no http"),
        (["--owner", "nobody-of-that-name"], "there is no user"),
        (["--group", "nobody-of-that-name"], "there is no group"),
        (["--check", "--watch"], "exclude each other"),
        (["--exec", "'"], "No closing quotation"),
    ],
)
def test_a_wrong_option_is_named(
    shared_consul: ConsulAgent, make_node: Callable[..., Node], arguments: list[str], words: str
) -> None:
    done = make_node(shared_consul, "compute").run(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


@pytest.mark.parametrize(("topics", "words"), [((), "no topic is of interest"), (("a:b",), "cannot be a topic")])
def test_topics_that_cannot_be_are_named(
    shared_consul: ConsulAgent, make_node: Callable[..., Node], topics: tuple[str, ...], words: str
) -> None:
    done = make_node(shared_consul, *topics).run()
    assert done.returncode == 1
    assert words in done.stderr


# for ever


@pytest.mark.quick("consul")
def test_the_ring_follows_the_catalog(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute", "scheduler")
    join(agent, "compute", "c1", "c2")
    node.watch()
    node.has("compute", "c1", "c2")
    join(agent, "compute", "c1", "c2", "c3")
    node.has("compute", "c1", "c2", "c3")
    leave(agent, "compute", "c1")
    node.has("compute", "c2", "c3")
    join(agent, "scheduler", "s1")
    node.has("scheduler", "s1")
    agent.register("compute", "compute-c3", "c3", meta={"zmq_host": "c3", "zmq_port": "9501"}, status="critical")
    node.has("compute", "c2")
    agent.register("compute", "compute-c3", "c3", meta={"zmq_host": "c3", "zmq_port": "9501", "zmq_servers": '["c3@lvm"]'})
    node.has("compute:c3@lvm", "c3")
    assert node.stop() == 0


@pytest.mark.quick("consul")
def test_a_wiped_consul_changes_no_ring(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute", "scheduler")
    join(agent, "compute", "c1", "c2", "c3")
    join(agent, "scheduler", "s1")
    node.watch()
    node.has("scheduler", "s1")
    node.has("compute", "c1", "c2", "c3")
    before = node.ring.read_bytes()
    agent.wipe()
    eventually(lambda: set(node.side_car().get("held", ())) == {"compute", "scheduler"}, within=30)
    assert node.ring.read_bytes() == before
    join(agent, "compute", "c1", "c4")
    node.has("compute", "c1", "c2", "c3", "c4")
    assert node.stop() == 0


def test_a_consul_that_was_wiped_while_nobody_watched_changes_no_ring(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1", "c2", "c3")
    assert node.run().returncode == 0
    before = node.ring.read_bytes()
    agent.wipe()
    join(agent, "compute", "c1")
    node.watch()
    eventually(lambda: "compute" in node.side_car().get("held", ()))
    assert node.ring.read_bytes() == before


def test_a_store_that_is_away_keeps_the_ring_is_said_once_and_is_followed_again(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    node.watch()
    node.has("compute", "c1")
    before = node.ring.read_bytes()
    agent.kill()
    eventually(lambda: node.side_car().get("problem"))
    assert node.ring.read_bytes() == before
    shown = zmqctl("ring", "show", "--config-file", node.config)
    assert "may be old" in shown.stdout
    agent.start()
    join(agent, "compute", "c1", "c2")
    node.has("compute", "c1", "c2")
    eventually(lambda: "problem" not in node.side_car())
    assert node.log.read_text().count("the ring stays as it is") == 1
    assert node.stop() == 0


def test_a_watch_that_starts_without_a_store_waits_for_it(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    agent.stop()
    node = make_node(agent, "compute")
    node.watch()
    node.says("the ring stays as it is")
    assert not node.ring.exists()
    agent.start()
    join(agent, "compute", "c1")
    node.has("compute", "c1")


def test_a_release_reaches_a_watch_and_a_restarted_one_remembers_what_was_held(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute", "scheduler")
    join(agent, "compute", "c1", "c2")
    join(agent, "scheduler", "s1")
    node.watch()
    node.has("compute", "c1", "c2")
    node.has("scheduler", "s1")
    leave(agent, "compute", "c1", "c2")
    eventually(lambda: "compute" in node.side_car().get("held", ()))
    since = node.side_car()["held"]["compute"]["since"]
    node.kill()
    node.watch()
    eventually(lambda: node.log.read_text().count("the ring is kept") == 2)
    assert node.side_car()["held"]["compute"]["since"] == since
    assert zmqctl("ring", "release", "compute", "--config-file", node.config).returncode == 0
    eventually(lambda: node.read() == {"scheduler": ["s1"]})
    eventually(lambda: "held" not in node.side_car())


def test_changes_that_come_together_are_written_together_once_they_are_over(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    node.watch("--quiet-for", "1s", "--at-most", "30s")
    node.has("compute", "c1")
    generation = node.side_car()["generation"]
    for number in range(2, 12):
        join(agent, "compute", *(f"c{one}" for one in range(1, number)))
    node.has("compute", *sorted(f"c{one}" for one in range(1, 11)))
    assert node.side_car()["generation"] == generation + 1


def test_sighup_syncs_at_once(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    node.watch("--quiet-for", "60s", "--at-most", "60s")
    node.says("the ring is kept")
    eventually(lambda: _hupped(node), within=20)
    assert node.read() == {"compute": ["c1"]}


def _hupped(node: Node) -> bool:
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    return bool(node.read())


def test_a_ring_that_somebody_else_changes_or_removes_is_written_again(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    node.watch()
    node.has("compute", "c1")
    good = node.ring.read_bytes()
    for meddle in (
        lambda: node.ring.write_text('{"compute": ["c'),
        node.ring.unlink,
        lambda: node.ring.write_text('{"compute": ["x"]}'),
        node.meta.unlink,
    ):
        meddle()
        eventually(lambda: node.ring.exists() and node.ring.read_bytes() == good)
        eventually(lambda: load(node.ring).endpoint("c1"))
    ring_file.write(node.ring, ring_file.render({"compute": ["c1"], "conductor": ["k1"]}))
    eventually(lambda: load(node.ring).endpoint("c1"))
    assert node.read() == {"compute": ["c1"], "conductor": ["k1"]}


# what cannot be


def test_kill_9_at_any_moment_leaves_a_whole_ring_whose_side_car_counts(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", *(f"c{number}" for number in range(1, 4)))
    changing = threading.Event()

    def change() -> None:
        number = 4
        while not changing.is_set():
            join(agent, "compute", *(f"c{one}" for one in (number % 50 + 4,)))
            leave(agent, "compute", f"c{(number + 40) % 50 + 4}")
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for attempt in range(20):
            node.watch()
            written = node.log.read_text().count("generation")
            eventually(
                lambda written=written, attempt=attempt: node.log.read_text().count("generation") > written + attempt % 5, 20
            )
            node.kill()
            ring, meta = node.ring.read_bytes(), node.meta.read_bytes()
            Reader(ring)
            endpoints = ring_file.parse_meta(meta, ring)
            assert set(json.loads(ring)["compute"]) <= set(endpoints), "each host has its address, whichever file was the last"
    finally:
        changing.set()
        thread.join()


def test_a_disk_that_is_full_keeps_the_old_ring_and_a_later_one_is_written(
    agent: ConsulAgent, make_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    assert node.run().returncode == 0
    before = node.ring.read_bytes()
    many = [f"host-with-a-long-name-{number:03}" for number in range(300)]
    join(agent, "compute", *many)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))

    node.watch(preexec_fn=limit)
    node.says("stays as it is: File too large")
    assert node.ring.read_bytes() == before
    assert node.process is not None
    assert node.still_runs()
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    node.has("compute", "c1", *many)
    assert sorted(path.name for path in node.ring.parent.iterdir()) == ["matchmaker_ring.json", "matchmaker_ring.meta.json"]
    assert node.log.read_text().count("File too large") == 1


def test_what_is_no_file_in_the_rings_place_is_left_alone_until_it_is_gone(
    agent: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    for make, remove in ((Path.mkdir, Path.rmdir), (os.mkfifo, Path.unlink)):
        make(node.ring)
        done = node.run()
        assert done.returncode == 1
        assert "no regular file" in done.stderr
        assert not node.ring.is_file()
        remove(node.ring)
    node.ring.mkdir()
    node.watch()
    node.says("no regular file")
    assert node.still_runs()
    node.ring.rmdir()
    node.has("compute", "c1")


def test_a_link_stays_and_what_it_leads_to_is_replaced(
    agent: ConsulAgent, make_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    target = tmp_path / "elsewhere.json"
    node.ring.symlink_to(target)
    assert node.run().returncode == 0
    assert node.ring.is_symlink()
    assert json.loads(target.read_bytes()) == {"compute": ["c1"]}
    assert load(node.ring).endpoint("c1")
    node.ring.unlink()
    node.ring.symlink_to(node.ring)
    assert node.run().returncode == 1


def test_owner_group_and_mode_stay_or_become_what_is_asked_for(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    assert os.geteuid() == 0, "only root can give files away; run the tests as root"
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    node.ring.write_text("{}")
    node.ring.chmod(0o640)
    os.chown(node.ring, 12, 34)
    assert node.run().returncode == 0
    assert (_facts(node.ring), _facts(node.meta)) == ((12, 34, 0o640), (12, 34, 0o640))
    join(agent, "compute", "c1", "c2")
    assert node.run("--owner", 56, "--group", "78", "--mode", "0604").returncode == 0
    assert (_facts(node.ring), _facts(node.meta)) == ((56, 78, 0o604), (56, 78, 0o604))


def _facts(path: Path) -> tuple[int, int, int]:
    facts = path.stat()
    return facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)


def test_a_directory_that_may_not_be_written_keeps_the_ring(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1")
    assert node.run().returncode == 0
    before = node.ring.read_bytes()
    join(agent, "compute", "c1", "c2")
    node.ring.parent.chmod(0o555)
    node.watch(preexec_fn=_obey_modes)
    node.says("Permission denied")
    assert node.still_runs()
    assert node.ring.read_bytes() == before
    node.ring.parent.chmod(0o755)
    node.has("compute", "c1", "c2")
    assert node.log.read_text().count("Permission denied") == 1


def _obey_modes() -> None:
    """Root without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH may do what the mode of a file lets its owner do."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


# who is told


def test_a_command_is_run_after_a_change_and_one_that_fails_hurts_nothing(
    agent: ConsulAgent, make_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = make_node(agent, "compute", "scheduler")
    join(agent, "compute", "c1")
    noted = tmp_path / "noted"
    command = tmp_path / "command"
    command.write_text(
        f'#!/bin/sh\necho "$ZMQ_RING $ZMQ_RING_CHANGED_TOPICS $1" >> {noted}\nsleep 5 &\necho too bad >&2; exit 7\n'
    )
    command.chmod(0o755)
    node.watch("--quiet-for", "0", "--exec", f"{command} 'a b;c'")
    eventually(lambda: noted.exists() and noted.read_text() == f"{node.ring} compute a b;c\n")
    node.says("ended with status 7: too bad")
    join(agent, "scheduler", "s1")
    eventually(lambda: noted.read_text().splitlines()[-1] == f"{node.ring} scheduler a b;c")
    assert node.stop() == 0
    done = node.run("--exec", "/not/there")
    assert done.returncode == 0, "nothing changed, nothing is run"
    join(agent, "scheduler", "s1", "s2")
    done = node.run("--exec", "/not/there")
    assert done.returncode == 0
    assert "cannot be run" in done.stderr
    assert node.read()["scheduler"] == ["s1", "s2"]


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted, after it has refused the first `refuse` posts."""

    refuse = 1
    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        cls = type(self)
        if cls.refuse:
            cls.refuse -= 1
            self.send_error(503)
            return
        cls.got.append(document)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_webhook_gets_the_change_and_is_tried_again(agent: ConsulAgent, make_node: Callable[..., Node]) -> None:
    node = make_node(agent, "compute")
    join(agent, "compute", "c1", "c2")
    hook = type("ThisHook", (Hook,), {"got": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/ring"
        assert node.run("--webhook", url).returncode == 0
        assert hook.got == [{"node": "n1", "generation": 1, "topics": {"compute": {"added": ["c1", "c2"], "removed": []}}}]
        leave(agent, "compute", "c1")
        node.run("--webhook", url)
        assert hook.got[1:] == [{"node": "n1", "generation": 2, "topics": {"compute": {"added": [], "removed": ["c1"]}}}]
        server.shutdown()
    join(agent, "compute", "c3")
    done = node.run("--webhook", url)
    assert done.returncode == 0
    assert "failed 3 times" in done.stderr


def test_systemd_is_told_when_the_watch_is_ready_and_when_it_stops(
    shared_consul: ConsulAgent, make_node: Callable[..., Node], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(str(tmp_path / "notify"))
        there.settimeout(20)
        node = make_node(shared_consul, "compute")
        node.watch(env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert there.recv(100) == b"READY=1"
        assert node.stop() == 0
        assert there.recv(100) == b"STOPPING=1"


# other stores, other rights


def test_a_token_without_rights_changes_no_ring_and_the_reason_can_be_read(
    make_consul: Callable[..., ConsulAgent], make_node: Callable[..., Node]
) -> None:
    agent = make_consul(acl=True)
    node = make_node(agent, "compute")
    join(agent, "compute", "c1", "c2")
    assert node.run().returncode == 0
    before = node.ring.read_bytes()
    assert agent.token_management
    node.config.write_text(
        node.config.read_text().replace(agent.token_management, agent.make_token({"key_prefix": {"x": {"policy": "read"}}}))
    )
    done = node.run("--within", "2s")
    assert done.returncode == 1
    assert "it needs service_prefix" in done.stderr
    node.watch()
    eventually(lambda: "it needs service_prefix" in node.side_car().get("problem", ""))
    assert node.ring.read_bytes() == before


def test_a_ring_is_kept_from_redis_too(
    shared_redis: RedisServer, shared_consul: ConsulAgent, make_node: Callable[..., Node]
) -> None:
    node = make_node(shared_consul, "compute", zmq_fabric="ring-from-redis")
    node.config.write_text(
        node.config.read_text() + f"[matchmaker_redis]\nhost = {shared_redis.host}\nport = {shared_redis.port}\n"
    )
    settings = dataclasses.replace(read(str(node.config)), matchmaker="redis")

    async def register(host: str, *servers: str) -> None:
        store = choose.store(dataclasses.replace(settings, host=host))
        await store.beat(Registration(host, "10.0.0.9", 9501, {"compute": frozenset(servers)} if servers else {}))
        await store.close()

    for host in ("c1", "c2"):
        asyncio.run(register(host, host, f"{host}@lvm"))
    node.watch("--quiet-for", "0", "--store", "redis")
    node.has("compute", "c1", "c2")
    assert node.read()["compute:c1@lvm"] == ["c1"]
    assert load(node.ring).endpoint("c1") == ring_file.Endpoint("10.0.0.9", 9501)
    asyncio.run(register("c2"))
    node.has("compute", "c1")
    asyncio.run(register("c1"))
    eventually(lambda: node.read() == {}), "both said that they leave"
