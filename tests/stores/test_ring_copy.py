"""The ring as one key of Consul: published by one node at a time, taken by all others, and never taken for gone."""

import base64
import json
from collections.abc import Callable
from typing import Any

from fabric import eventually
from ring_node import Node, join, leave, zmqctl
from servers import ConsulAgent

from openstack_zeromq.catalog.copy import pack
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.ring import load

KEY = "zeromq/openstack/ring"


def _put(agent: ConsulAgent, value: bytes) -> None:
    assert agent.client().kv.put(KEY, value)


def _entry(agent: ConsulAgent) -> dict[str, Any] | None:
    return agent.client().kv.get(KEY)[1]


def test_a_node_takes_the_published_ring_and_follows_it(
    make_consul: Callable[..., ConsulAgent], make_node: Callable[..., Node]
) -> None:
    agent = make_consul()
    join(agent, "compute", "c1", "c2")
    publisher, taker = (make_node(agent, "compute", "scheduler") for _ in range(2))
    publisher.watch("--quiet-for", "0", "--publish")
    taker.watch("--quiet-for", "0", "--from-kv")
    taker.has("compute", "c1", "c2")
    assert load(taker.ring).endpoint("c1") == ring_file.Endpoint("10.0.0.1", 9501)
    join(agent, "scheduler", "s1")
    taker.has("scheduler", "s1")
    leave(agent, "compute", "c1")
    taker.has("compute", "c2")
    assert taker.side_car()["source"].endswith(f"key {KEY}")

    leave(agent, "compute", "c2")
    eventually(lambda: publisher.side_car().get("held"))
    assert zmqctl("ring", "release", "compute", "--config-file", publisher.config).returncode == 0
    eventually(lambda: taker.read() == {"scheduler": ["s1"]}), "what the publisher accepts its takers accept"


def test_a_key_that_is_missing_broken_or_wiped_changes_no_ring(
    make_consul: Callable[..., ConsulAgent],
    make_node: Callable[..., Node],
) -> None:
    agent = make_consul()
    join(agent, "compute", "c1", "c2")
    publisher, taker = (make_node(agent, "compute") for _ in range(2))
    done = taker.run("--from-kv", "--within", "1s")
    assert done.returncode == 1
    assert "nobody has published a ring there" in done.stderr
    assert "published" in publisher.run("--publish").stdout
    taker.watch("--quiet-for", "0", "--from-kv")
    taker.has("compute", "c1", "c2")
    before = taker.ring.read_bytes()
    entry = _entry(agent)
    assert entry is not None
    good = entry["Value"]

    ring = ring_file.render({"compute": ["c9"]})
    wrong = pack(ring, ring_file.render_meta(ring_file.render({"compute": ["c8"]}), {}, "test"))
    for broken in (b"", b"nonsense", good[:-20], wrong):
        _put(agent, broken)
        eventually(lambda: taker.side_car().get("problem"), within=20)
        assert taker.ring.read_bytes() == before
        _put(agent, good)
        eventually(lambda: "problem" not in taker.side_car(), within=20)
    agent.wipe()
    eventually(lambda: "nobody has published" in taker.side_car().get("problem", ""), within=30)
    assert taker.ring.read_bytes() == before
    _put(agent, pack(ring_file.render({}), None))
    eventually(lambda: taker.side_car().get("held"), within=20)
    assert taker.ring.read_bytes() == before, "an empty ring is an accident, too"


def test_one_publishes_and_another_takes_over(make_consul: Callable[..., ConsulAgent], make_node: Callable[..., Node]) -> None:
    agent = make_consul()
    join(agent, "compute", "c1")
    first, second = (make_node(agent, "compute") for _ in range(2))
    first.watch("--quiet-for", "0", "--publish")
    eventually(lambda: _entry(agent))
    second.watch("--quiet-for", "0", "--publish")
    second.says("another node publishes the ring")
    assert first.stop() == 0
    second.says("published the ring in")
    agent.client().kv.delete(KEY)
    eventually(lambda: _entry(agent), within=20)
    _put(agent, b"what somebody else wants there")
    eventually(lambda: (_entry(agent) or {}).get("Value") != b"what somebody else wants there", within=20)


def test_the_same_ring_is_packed_into_the_same_bytes_and_one_that_is_too_large_is_refused(
    shared_consul: ConsulAgent,
    make_node: Callable[..., Node],
) -> None:
    ring = ring_file.render({"compute": ["c1"]})
    assert pack(ring, None) == pack(ring, None)
    node = make_node(shared_consul, "too-large")
    names = {
        f"t{number:05}": [base64.b32encode(str(number * 7919).encode() * 3).decode().strip("=").lower()]
        for number in range(60_000)
    }
    node.ring.write_bytes(json.dumps(names).encode())
    done = node.run("--publish")
    assert done.returncode == 1
    assert "524288" in done.stderr
