"""`zmqctl catalog watch` against a real Consul: every settled change starts something, and none is missed in silence."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fabric import eventually
from ring_node import ZMQCTL, Node, join, leave, zmqctl
from servers import ConsulAgent, RedisServer

FAST = ("--quiet-for", "100ms", "--retry-after", "100ms")


class Watcher:
    """The daemon, with a command that notes what it is told as lines of JSON; while `broken` is there it fails."""

    def __init__(self, node: Node, directory: Path) -> None:
        self.node, self.directory = node, directory
        self.state = directory / "watch"
        self.notes, self.broken, self.log = directory / "notes", directory / "broken", directory / "watch.log"
        self.slow = directory / "slow"
        self.script = directory / "note.py"
        self.script.write_text(f"""
import json, os, pathlib, sys, time
with open({str(self.notes)!r}, "a") as file:
    environment = {{name: value for name, value in os.environ.items() if name.startswith("ZMQ_")}}
    file.write(json.dumps([environment, json.load(sys.stdin)]) + "\\n")
while pathlib.Path({str(self.slow)!r}).exists():
    time.sleep(0.05)
sys.exit(3 if pathlib.Path({str(self.broken)!r}).exists() else 0)
""")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: object) -> None:
        """It has taken down what is there when this returns, if it says anything."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(ZMQCTL, "catalog", "watch", "--config-file", self.node.config, "--state", self.state),
                    *("--exec", f"{sys.executable} -S {self.script}", *FAST, *map(str, arguments)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(lambda: (self.state / "told.json").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def told(self) -> list[dict[str, Any]]:
        """The documents, in order."""
        return [json.loads(line)[1] for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def environments(self) -> list[dict[str, str]]:
        return [json.loads(line)[0] for line in self.notes.read_text().splitlines()]

    def waits(self, topic: str) -> bool:
        """Has the watch seen the topic as it is in the store? Its ring says so."""
        done = zmqctl("ring", "show", "--ringfile", self.state / "seen.json")
        return topic in done.stdout


@pytest.fixture
def agent(make_consul: Callable[..., ConsulAgent]) -> ConsulAgent:
    return make_consul()


@pytest.fixture
def watcher(agent: ConsulAgent, make_node: Callable[..., Node], tmp_path: Path) -> Iterator[Watcher]:
    """Interested in topic compute; not started."""
    made = Watcher(make_node(agent, "compute"), tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def new_node(agent: ConsulAgent, name: str, address: str = "10.0.0.9", **meta: str) -> None:
    """An agent joins; nothing runs on its node yet."""
    agent.put("catalog/register", Node=name, Address=address, NodeMeta=meta)


def test_a_change_runs_the_command_once_with_what_changed_and_what_was_there_before_is_no_change(
    agent: ConsulAgent, watcher: Watcher
) -> None:
    join(agent, "compute", "c1", "c2")
    watcher.start()
    join(agent, "compute", "c1", "c2", "c3")
    eventually(watcher.told)
    leave(agent, "compute", "c1")
    eventually(lambda: len(watcher.told()) == 2)
    first, second = watcher.told()
    assert first["topics"] == {"compute": {"added": ["c3"], "removed": []}}
    assert first["nodes"] == {"added": ["c3"], "removed": [], "moved": []}
    assert first["addresses"] == {"c3": "10.0.0.3"}
    assert second["nodes"]["removed"] == ["c1"]
    assert first["id"] != second["id"]
    environment = watcher.environments()[0]
    assert (environment["ZMQ_NODES_ADDED"], environment["ZMQ_NODES_REMOVED"]) == ("c3", "")
    assert environment["ZMQ_TOPICS_CHANGED"] == "compute"
    assert not watcher.node.ring.exists(), "no ring is touched"
    assert watcher.stop() == 0


def test_a_node_is_news_as_soon_as_its_agent_has_joined_before_anything_runs_there(agent: ConsulAgent, watcher: Watcher) -> None:
    new_node(agent, "n1", zmq="true")
    watcher.start("--nodes", "--node-meta", "zmq=true")
    new_node(agent, "database", "10.0.0.7")
    new_node(agent, "n2.example.com", "10.0.0.8", zmq="true")
    eventually(watcher.told)
    assert watcher.told()[0]["nodes"] == {"added": ["n2"], "removed": [], "moved": []}
    assert watcher.told()[0]["addresses"] == {"n2": "10.0.0.8"}
    new_node(agent, "n1", "10.0.1.1", zmq="true")
    eventually(lambda: len(watcher.told()) == 2)
    assert watcher.environments()[1]["ZMQ_NODES_MOVED"] == "n1"
    agent.put("catalog/deregister", Node="n2.example.com")
    eventually(lambda: len(watcher.told()) == 3)
    assert watcher.environments()[2]["ZMQ_NODES_REMOVED"] == "n2"


def test_with_keys_as_the_store_nodes_are_news_too(agent: ConsulAgent, make_node: Callable[..., Node], tmp_path: Path) -> None:
    node = make_node(agent)
    with node.config.open("a") as file:
        file.write("mode = kv\n")
    agent.client().kv.put("zeromq/openstack/canary", "there")
    new_node(agent, "n1")
    done = zmqctl("catalog", "show", "--config-file", node.config, "--nodes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ring"] == {"nodes of consul": ["n1", "store"]}


def test_a_command_that_fails_is_run_again_with_the_same_id_and_then_is_silent(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    watcher.start()
    watcher.broken.touch()
    join(agent, "compute", "c1", "c2")
    eventually(lambda: len(watcher.told()) >= 2)
    watcher.broken.unlink()
    eventually(lambda: _all_is_told(watcher))
    assert len({told["id"] for told in watcher.told()}) == 1
    assert "ended with status 3; attempt 2 of 6" in watcher.log.read_text()


def test_a_change_that_nobody_takes_is_told_loudly_and_again_after_a_restart(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    watcher.start("--attempts", "2")
    watcher.broken.touch()
    join(agent, "compute", "c1", "c2")
    eventually(lambda: "MISSED" in watcher.log.read_text())
    assert "CRITICAL" in watcher.log.read_text()
    assert len(watcher.told()) == 2
    shown = zmqctl("catalog", "show", "--config-file", watcher.node.config, "--state", watcher.state)
    assert shown.returncode == 3
    assert "not told yet: nodes +c2; compute +c2" in shown.stdout
    assert watcher.stop() == 0
    watcher.broken.unlink()
    watcher.start("--attempts", "2")
    eventually(lambda: _all_is_told(watcher))
    assert [told["nodes"]["added"] for told in watcher.told()] == [["c2"]] * 3


def test_sighup_tries_again_what_was_missed(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    watcher.start("--attempts", "1")
    watcher.broken.touch()
    join(agent, "compute", "c1", "c2")
    eventually(lambda: "MISSED" in watcher.log.read_text())
    watcher.broken.unlink()
    assert watcher.process is not None
    watcher.process.send_signal(signal.SIGHUP)
    eventually(lambda: _all_is_told(watcher))


def test_changes_that_come_while_the_command_runs_are_told_afterwards_as_one(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    watcher.start()
    watcher.slow.touch()
    join(agent, "compute", "c1", "c2")
    eventually(lambda: len(watcher.told()) == 1)
    join(agent, "compute", "c1", "c2", "c3")
    eventually(lambda: watcher.waits("c3"))
    join(agent, "compute", "c1", "c2", "c3", "c4")
    eventually(lambda: watcher.waits("c4"))
    leave(agent, "compute", "c3")
    eventually(lambda: not watcher.waits("c3"))
    assert len(watcher.told()) == 1, "one at a time"
    watcher.slow.unlink()
    eventually(lambda: _all_is_told(watcher))
    assert [told["nodes"]["added"] for told in watcher.told()] == [["c2"], ["c4"]], "c3 came and went"


def test_what_changes_while_the_watch_is_away_is_told_when_it_is_back_even_after_a_kill(
    agent: ConsulAgent, watcher: Watcher
) -> None:
    join(agent, "compute", "c1", "c2")
    watcher.start()
    assert watcher.process is not None
    watcher.process.kill()
    watcher.process.wait()
    join(agent, "compute", "c1", "c2", "c3")
    leave(agent, "compute", "c1")
    watcher.start()
    eventually(watcher.told)
    assert watcher.told()[0]["nodes"] == {"added": ["c3"], "removed": ["c1"], "moved": []}


def test_a_watch_that_ends_while_its_command_runs_ends_that_and_tells_it_again(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    watcher.start()
    watcher.slow.touch()
    join(agent, "compute", "c1", "c2")
    eventually(watcher.told)
    assert watcher.stop() == 0
    watcher.slow.unlink()
    watcher.start()
    eventually(lambda: _all_is_told(watcher))
    assert [told["nodes"]["added"] for told in watcher.told()] == [["c2"], ["c2"]]


def test_a_new_topic_of_interest_is_no_news_and_its_next_host_is(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    join(agent, "scheduler", "s1")
    watcher.start()
    watcher.stop()
    watcher.start("--topic", "compute", "--topic", "scheduler", "--topic", "conductor")
    eventually(lambda: "conductor" in (watcher.state / "told.json").read_text())
    join(agent, "conductor", "s2")
    eventually(watcher.told)
    assert [told["topics"] for told in watcher.told()] == [{"conductor": {"added": ["s2"], "removed": []}}]


def test_a_loss_that_looks_like_an_accident_redeploys_nothing_until_it_is_released(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    watcher.start()
    leave(agent, "compute", "c1")
    seen = watcher.state / "seen.json"
    eventually(lambda: "no host is left" in zmqctl("ring", "held", "--ringfile", seen).stdout)
    assert watcher.told() == []
    assert zmqctl("ring", "release", "--ringfile", seen, "compute").returncode == 0
    eventually(watcher.told)
    assert watcher.told()[0]["nodes"]["removed"] == ["c1"]


def test_while_consul_is_away_nothing_is_told_and_afterwards_what_changed(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1", "c2")
    watcher.start()
    agent.stop()
    eventually(lambda: "stays as it is" in watcher.log.read_text())
    assert watcher.told() == []
    agent.start()
    join(agent, "compute", "c1", "c2", "c3")
    eventually(watcher.told, within=30)
    assert watcher.told()[0]["nodes"]["added"] == ["c3"]


def test_registrations_in_redis_are_followed_as_well(
    agent: ConsulAgent, shared_redis: RedisServer, make_node: Callable[..., Node]
) -> None:
    node = make_node(agent, "compute", zmq_fabric="catalog-watch")
    with node.config.open("a") as file:
        file.write(f"[matchmaker_redis]\nhost = {shared_redis.host}\nport = {shared_redis.port}\n")
    for arguments, status in ((["show"], 0), (["show", "--nodes"], 1), (["watch", "--once", *FAST, "--within", "5s"], 3)):
        done = zmqctl("catalog", *arguments, "--config-file", node.config, "--store", "redis")
        assert done.returncode == status, done.stderr
        assert "has a list of nodes" in done.stderr or status != 1


# once, for CI


def test_once_prints_the_first_change_as_json_and_ends(agent: ConsulAgent, watcher: Watcher) -> None:
    join(agent, "compute", "c1")
    process = subprocess.Popen(
        [ZMQCTL, "catalog", "watch", "--config-file", watcher.node.config, "--state", watcher.state, "--once", *FAST],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually((watcher.state / "told.json").exists)
    join(agent, "compute", "c1", "c2")
    out, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert json.loads(out)["nodes"]["added"] == ["c2"]
    again = zmqctl(
        "catalog", "watch", "--config-file", watcher.node.config, "--state", watcher.state, "--once", *FAST, "--within", "2s"
    )
    assert (again.returncode, again.stdout) == (3, ""), "it is told"


def test_once_with_initial_tells_all_that_is_there_and_a_command_that_fails_is_status_1(
    agent: ConsulAgent, watcher: Watcher
) -> None:
    join(agent, "compute", "c1")
    common = ("catalog", "watch", "--config-file", watcher.node.config, "--once", "--initial", *FAST)
    done = zmqctl(*common, "--state", watcher.directory / "a", "--exec", "true")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nodes"]["added"] == ["c1"]
    done = zmqctl(*common, "--state", watcher.directory / "b", "--exec", "false", "--attempts", "2")
    assert done.returncode == 1
    assert "false ended with status 1" in done.stderr


def test_once_without_a_store_says_so(agent: ConsulAgent, watcher: Watcher) -> None:
    agent.stop()
    done = zmqctl("catalog", "watch", "--config-file", watcher.node.config, "--once", "--within", "1s")
    assert done.returncode == 1
    assert "has not said enough within 1 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--exec", "true", "--webhook", "http://x/"], 2, "exclude each other"),
        (["--exec", "'"], 2, "No closing quotation"),
        (["--webhook", "ftp://x"], 2, "is no http"),
        (["--webhook", "@/no/such/file"], 2, "No such file"),
        (["--secret-file", "/dev/null"], 2, "are for --webhook"),
        (["--node-meta", "zmq=true"], 2, "give that, too"),
        (["--nodes", "--node-meta", "zmq"], 2, "is not NAME=VALUE"),
        (["--topic", "a:b"], 1, "cannot be a topic"),
        (["--secret-file", "/dev/null", "--webhook", "http://x/"], 2, "is empty"),
        (["--state", "/dev/null"], 1, "with --state"),
        (["--state", "/proc/no"], 1, "with --state"),
    ],
)
def test_a_wrong_option_is_named(
    shared_consul: ConsulAgent, make_node: Callable[..., Node], arguments: list[str], status: int, words: str
) -> None:
    done = zmqctl("catalog", "watch", "--config-file", make_node(shared_consul, "compute").config, *arguments)
    assert done.returncode == status, done.stderr
    assert words in " ".join(done.stderr.split())


def test_a_token_that_must_not_see_nodes_is_told_which_right_it_needs(
    make_consul: Callable[..., ConsulAgent], make_node: Callable[..., Node]
) -> None:
    agent = make_consul(acl=True)
    node = make_node(agent)
    token = agent.make_token({"key_prefix": {"": {"policy": "read"}}})
    agent.client().kv.put("zeromq/openstack/canary", "there")
    text = node.config.read_text().replace(str(agent.token_management), token)
    node.config.write_text(f"{text}mode = kv\n")
    done = zmqctl("catalog", "show", "--config-file", node.config, "--nodes", "--within", "3s")
    assert done.returncode == 1
    assert 'node_prefix "" read' in done.stderr


def _all_is_told(watcher: Watcher) -> bool:
    """The watch has seen the change, and somebody took it."""
    done = zmqctl("catalog", "show", "--config-file", watcher.node.config, "--state", watcher.state)
    return bool(watcher.told()) and done.returncode == 0
