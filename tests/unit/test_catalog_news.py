"""News: what a watcher tells of two states of the catalog, and the ways it goes."""

import asyncio
import dataclasses
import hashlib
import hmac
import http.server
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric import eventually

from openstack_zeromq.catalog import ways
from openstack_zeromq.catalog.news import NODES, News, Seen, news
from openstack_zeromq.catalog.nodes import nodes
from openstack_zeromq.catalog.shape import Published
from openstack_zeromq.catalog.watch import Interest, Patience, State
from openstack_zeromq.catalog.ways import Command, UndeliveredError, Webhook
from openstack_zeromq.errors import ConfigError, StoreError
from openstack_zeromq.matchmaker.ring_file import Endpoint


def seen(ring: dict[str, tuple[str, ...]], *topics: str, **addresses: str) -> Seen:
    return Seen(frozenset(topics or ring), ring, addresses)


SOME = news(seen({"compute": ("c1",)}), seen({"compute": ("c2",)}, c2="10.0.0.2"), "consul")


# what is news


def test_a_node_is_new_when_it_is_on_no_topic_before_and_gone_when_it_is_on_none_after() -> None:
    before, after = seen({"a": ("x", "y"), "b": ("x",)}), seen({"a": ("x", "z"), "b": ("y", "z")})
    found = news(before, after, "consul")
    assert (found.added, found.removed) == (("z",), ())
    assert [(change.key, change.added, change.removed) for change in found.topics] == [
        ("a", ("z",), ("y",)),
        ("b", ("y", "z"), ("x",)),
    ]
    assert news(after, seen({"a": ("z",), "b": ("z",)}), "consul").removed == ("x", "y")


def test_where_the_nodes_of_consul_are_followed_only_they_are_nodes() -> None:
    before, after = seen({NODES: ("n1",), "a": ("x",)}), seen({NODES: ("n1", "n2"), "a": ("y",)}, n2="10.0.0.2")
    found = news(before, after, "consul")
    assert (found.added, found.removed, found.addresses) == (("n2",), (), {"n2": "10.0.0.2"})
    assert [change.key for change in found.topics] == ["a"]


def test_a_node_with_another_address_has_moved_and_one_whose_address_becomes_known_has_not() -> None:
    before = seen({"a": ("x", "y")}, x="10.0.0.1")
    found = news(before, seen({"a": ("x", "y")}, x="10.0.0.9", y="10.0.0.2"), "consul")
    assert (found.moved, found.addresses) == (("x",), {"x": "10.0.0.9"})
    assert not news(before, seen({"a": ("x", "y")}), "consul")


def test_a_topic_that_was_not_followed_before_is_no_news() -> None:
    assert not news(seen({"a": ("x",)}), seen({"a": ("x",), "b": ("z",)}, "a", "b"), "consul")


def test_the_environment_names_nodes_and_topics_as_ansible_takes_them_and_the_document_says_all() -> None:
    found = news(seen({"a": ("x",)}, "a", "b"), seen({"a": ("y", "z"), "b": ("z",), "b:s": ("z",)}, "a", "b"), "consul h:1")
    told = found.environment()
    assert (told["ZMQ_NODES_ADDED"], told["ZMQ_NODES_REMOVED"], told["ZMQ_NODES_MOVED"]) == ("y,z", "x", "")
    assert told["ZMQ_NODES_CHANGED"] == "y,z"
    assert told["ZMQ_TOPICS_CHANGED"] == "a,b"
    document = found.document()
    assert document["id"] == told["ZMQ_CHANGE"]
    assert document["topics"]["b:s"] == {"added": ["z"], "removed": []}
    assert document["nodes"] == {"added": ["y", "z"], "removed": ["x"], "moved": []}


def test_the_same_change_at_another_time_has_another_id_and_told_again_the_same() -> None:
    again = dataclasses.replace(SOME, generation=SOME.generation + 2)
    assert SOME.document()["id"] == SOME.document()["id"] != again.document()["id"]


@pytest.mark.parametrize("name", ["@/etc/passwd", "-e", "!c1", "&c1", "~c.*", "*", "c1,all", "c1\nx", "c[1:9]", "", "$(id)"])
def test_a_name_that_could_be_more_than_a_name_is_not_told(name: str) -> None:
    published = Published({"a": ("c1", name)}, {name: Endpoint("10.0.0.6", None)})
    found = Seen.of(published, {"a"})
    assert found.ring == {"a": ("c1",)}
    assert found.addresses == {}


def test_what_was_told_survives_the_disk(tmp_path: Path) -> None:
    state = State(tmp_path)
    assert state.told() is None
    told = Seen(frozenset({"a", NODES}), {"a": ("x",), NODES: ("x", "y")}, {"x": "10.0.0.1"}, 7)
    state.keep(told)
    assert state.told() == told


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"topics": [], "ring": [], "addresses": {}, "generation": 1}'])
def test_what_was_told_and_cannot_be_read_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "told.json").write_text(content)
    with pytest.raises(ConfigError, match=r"told\.json: .*; remove it"):
        State(tmp_path).told()


def test_a_state_belongs_to_one_watch(tmp_path: Path) -> None:
    with State(tmp_path).claimed(), pytest.raises(ConfigError, match="another watch uses it"), State(tmp_path).claimed():
        pass
    with State(tmp_path).claimed():
        pass


def test_nothing_to_follow_and_topics_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is of interest"):
        Interest(())
    for topic in ("a:b", " a", NODES):
        with pytest.raises(ConfigError, match="cannot be a topic"):
            Interest((topic,))


def test_pauses_double_and_do_not_grow_for_ever() -> None:
    patience = Patience(first=5.0, longest=60.0)
    assert [patience.pause(failures) for failures in (1, 2, 3, 4, 5, 500)] == [5, 10, 20, 40, 60, 60]


# Consul's nodes


def node(name: str, **meta: str) -> dict[str, Any]:
    return {"Node": name, "Address": "10.0.0.1", "Meta": meta}


def test_nodes_are_those_with_the_meta_by_their_own_or_short_names() -> None:
    content = [
        node("n1.example.com", zmq="true"),
        node("vm-17", zmq="true", zmq_host="n2"),
        node("db1"),
        {"Node": "x", "Meta": None},
    ]
    told = nodes(content, {"zmq": "true"}, lambda what: None)
    assert sorted(told.members) == ["n1", "n2"]
    assert told.members["n1"].address == "10.0.0.1"


def test_what_is_no_node_is_left_out_and_named() -> None:
    garbage: list[str] = []
    assert list(nodes([1, {"Node": 5, "Meta": {}}, node("n1")], {}, garbage.append).members) == ["n1"]
    assert len(garbage) == 2


@pytest.mark.parametrize("content", [[], None, {}])
def test_a_list_without_any_node_is_a_token_without_rights(content: object) -> None:
    with pytest.raises(StoreError, match="node_prefix") as raised:
        nodes(content, {}, lambda what: None)
    assert raised.value.refused


# ways


def take(way: ways.Way) -> None:
    asyncio.run(way.take(SOME))


def script(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "script.py"
    path.write_text(text)
    return sys.executable, "-S", str(path)


def test_a_command_has_the_news_in_its_environment_and_on_its_standard_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = f"import os, sys; open({str(out)!r}, 'w').write(os.environ['ZMQ_NODES_ADDED'] + '|' + sys.stdin.read())"
    take(Command(script(tmp_path, text), 30))
    added, _, document = out.read_text().partition("|")
    assert added == "c2"
    assert json.loads(document) == SOME.document()


def test_a_command_that_does_not_read_is_well(tmp_path: Path) -> None:
    big = dataclasses.replace(SOME, added=tuple(f"host-{number:06}" for number in range(9_000)))  # more than a pipe holds
    asyncio.run(Command(("true",), 30).take(big))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("false",), "false ended with status 1"),
        (("/no/such/program",), "cannot be run"),
        (("sleep", "300"), "did not end within"),
    ],
)
def test_a_command_that_fails_is_not_delivered(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(UndeliveredError, match=why):
        take(Command(words, 0.3))


def test_a_command_is_ended_with_all_that_it_started_when_the_watch_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "END_WITHIN", 0.5)
    pids = tmp_path / "pids"
    text = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
with open({str(pids)!r}, "a") as file:
    file.write(f"{{os.getpid()}} ")
time.sleep(300)
"""

    async def scenario() -> None:
        running = asyncio.create_task(Command(script(tmp_path, text), 300).take(SOME))
        while not pids.exists() or pids.read_text().count(" ") < 2:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    for pid in pids.read_text().split():
        eventually(lambda pid=pid: not _runs(pid))


def _runs(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def served() -> Iterator[Callable[[int], tuple[str, list[tuple[dict[str, str], bytes]]]]]:
    """`served(500)` gives the URL of a server that answers so, and what it was sent."""
    servers = []

    def serve(status: int) -> tuple[str, list[tuple[dict[str, str], bytes]]]:
        got: list[tuple[dict[str, str], bytes]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                got.append(({}, b"GET"))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/hook?token=geheim", got

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


Served = Callable[[int], tuple[str, list[tuple[dict[str, str], bytes]]]]


def test_a_webhook_gets_the_document_with_its_id_a_token_and_a_signature_that_checks(served: Served) -> None:
    url, got = served(204)
    take(Webhook(url, b"secret", "token"))
    [(headers, body)] = got
    assert json.loads(body) == SOME.document()
    assert headers["X-Hub-Signature-256"] == "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    assert headers["Authorization"] == "Bearer token"
    assert headers["X-Zmq-Change"] == SOME.document()["id"]


@pytest.mark.parametrize("status", [302, 403, 500])
def test_a_webhook_that_does_not_say_yes_has_not_taken_it_and_its_token_is_not_shown(served: Served, status: int) -> None:
    url, got = served(status)
    with pytest.raises(UndeliveredError, match=str(status)) as raised:
        take(Webhook(url))
    assert len(got) == 1, "a redirect is not followed"
    assert "geheim" not in str(raised.value) + repr(Webhook(url, b"geheim", "geheim"))


def test_a_webhook_that_is_not_there_has_not_taken_it() -> None:
    with pytest.raises(UndeliveredError, match=r"http://127\.0\.0\.1: .*refused"):
        take(Webhook("http://127.0.0.1:9/"))


def test_news_without_anything_is_false() -> None:
    assert not News("consul", 1, (), (), (), (), {})
    assert SOME
    assert SOME.summary() == "nodes +c2 -c1; compute +c2 -c1"
    assert "ZMQ_NODES_ADDED" not in os.environ
