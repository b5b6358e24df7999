"""The source plug-in of Event-Driven Ansible with a real Consul, and its rulebook."""

import asyncio
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from ansiblelint.schemas import main as ansible_schemas
from ring_node import Node, join
from servers import ConsulAgent

from openstack_zeromq.errors import ConfigError

CHECKOUT = Path(__file__).parents[2]
EDA = CHECKOUT / "extensions" / "eda"
RULEBOOKS = sorted((EDA / "rulebooks").glob("*.yml"))


@pytest.fixture(scope="module")
def source() -> ModuleType:
    """The plug-in, loaded by its path as ansible-rulebook does."""
    spec = importlib.util.spec_from_file_location("zeromq_catalog", EDA / "plugins" / "event_source" / "zeromq_catalog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Source:
    """The plug-in at work, in a loop of the test's."""

    def __init__(self, module: ModuleType, arguments: dict[str, Any]) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(module.main(self.queue, arguments))

    async def event(self) -> dict[str, Any]:
        """The next one; what ends the plug-in is raised."""
        waiting = asyncio.create_task(self.queue.get())
        done, _ = await asyncio.wait({waiting, self.task}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert done, "no event within 30 s"
        if self.task in done:
            waiting.cancel()
            self.task.result()
        return await waiting

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.02)


@pytest.fixture
def node(make_consul: Callable[..., ConsulAgent], make_node: Callable[..., Node]) -> Node:
    return make_node(make_consul(), "compute")


def test_a_node_that_joins_is_an_event_that_names_it_as_a_playbook_takes_it(source: ModuleType, node: Node) -> None:
    agent = node.agent
    state = node.config.parent / "eda"
    arguments = {"config_file": [str(node.config)], "nodes": True, "state": str(state), "quiet_for": 0.1}

    async def scenario() -> list[dict[str, Any]]:
        events = []
        working = Source(source, arguments)
        await _until((state / "told.json").exists)
        await asyncio.to_thread(agent.put, "catalog/register", Node="n2", Address="10.0.0.2")
        events.append(await working.event())
        await working.end()
        await asyncio.to_thread(join, agent, "compute", "c1")  # while nobody watches
        working = Source(source, arguments)
        events.append(await working.event())
        await working.end()
        return events

    joined, missed = asyncio.run(scenario())
    assert joined["nodes"] == {"added": ["n2"], "removed": [], "moved": []}
    assert (joined["zmq_nodes_added"], joined["zmq_nodes_removed"], joined["zmq_nodes_moved"]) == ("n2", "", "")
    assert joined["zmq_nodes_changed"] == "n2"
    assert joined["addresses"] == {"n2": "10.0.0.2"}
    assert missed["zmq_topics_changed"] == "compute"
    json.dumps(joined)


def test_a_consumer_that_does_not_take_events_does_not_stop_the_following(source: ModuleType, node: Node) -> None:
    state = node.config.parent / "eda"

    async def scenario() -> dict[str, Any]:
        working = Source(source, {"config_file": str(node.config), "state": str(state), "quiet_for": 0.1})
        working.queue._maxsize = 1  # type: ignore[attr-defined]
        working.queue.put_nowait({"full": True})
        await _until((state / "told.json").exists)
        for hosts in (("c1",), ("c1", "c2")):
            await asyncio.to_thread(join, node.agent, "compute", *hosts)
            await _until(lambda hosts=hosts: hosts[-1] in (state / "seen.json").read_text())
        assert await working.event() == {"full": True}
        events = [await working.event()]
        while "c2" not in events[-1]["addresses"]:
            events.append(await working.event())
        await working.end()
        return events[0]

    assert asyncio.run(scenario())["topics"]["compute"]["added"][0] == "c1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"topic": "compute"}, "no such argument: topic"),
        ({"store": "etcd"}, "none of consul, redis, sentinel"),
        ({"config_file": "/no/such/file"}, "config_file"),
        ({"topics": ["a:b"]}, "cannot be a topic"),
        ({"topics": []}, "nothing is of interest"),
        ({"nodes": True, "store": "redis"}, "only Consul has a list of nodes"),
        ({"state": "/proc/no", "nodes": True}, "name a directory"),
    ],
)
def test_an_argument_that_cannot_be_is_named(
    source: ModuleType, shared_consul: ConsulAgent, make_node: Callable[..., Node], arguments: dict[str, Any], words: str
) -> None:
    config = make_node(shared_consul).config
    with pytest.raises(ConfigError, match=words):
        asyncio.run(source.main(asyncio.Queue(), {"config_file": str(config), **arguments}))


def test_documented_arguments_are_those_that_are_taken(source: ModuleType) -> None:
    assert set(yaml.safe_load(source.DOCUMENTATION)["options"]) == source._NAMES
    [example] = yaml.safe_load(source.EXAMPLES)
    assert set(example["zeromq_catalog"]) <= source._NAMES


@pytest.mark.parametrize("rulebook", RULEBOOKS, ids=lambda path: path.name)
def test_a_rulebook_has_the_shape_that_ansible_rulebook_wants_and_arguments_that_there_are(
    source: ModuleType, rulebook: Path
) -> None:
    schema = json.loads((Path(ansible_schemas.__file__).parent / "rulebook.json").read_text())
    content = yaml.safe_load(rulebook.read_text())
    jsonschema.validate(content, schema)
    for ruleset in content:
        for one in ruleset["sources"]:
            assert set(one["zeromq_catalog"]) <= source._NAMES
    content[0]["rules"][0]["action"] = {"no_such_action": {}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)
