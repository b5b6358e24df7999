"""zmqctl asks the running receiver for hosts and what it holds, and the store for who is alive."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result
from fabric import Fabric, eventually
from servers import ConsulAgent, RedisServer

from openstack_zeromq.cli.zmqctl import main


def _zmqctl(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


class Endpoint:
    """Answers."""

    def who(self, _ctxt: dict[str, Any]) -> str:
        return "me"


@pytest.fixture
def make_fabric() -> Iterator[Callable[..., Fabric]]:
    """`make_fabric(nodes=2, ring={...})` gives a fabric that is closed at the end."""
    with ExitStack() as made:

        def make(**settings: Any) -> Fabric:
            fabric = Fabric(**settings)
            made.callback(fabric.close)
            return fabric

        yield make


def test_hosts_asks_the_receiver_and_says_who_nobody_serves(make_fabric: Callable[..., Fabric]) -> None:
    fabric = make_fabric(nodes=2, ring={"compute": ["n1", "n2"], "compute:odd@lvm": ["n2"]})
    fabric.start()
    config = fabric.config_file("n1")
    done = _zmqctl("hosts", "compute", "--config-file", config)
    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.output.splitlines()] == [
        ["host", "address", "port"],
        ["n1", "127.0.1.1", str(fabric.port)],
        ["n2", "127.0.1.2", str(fabric.port)],
        ["server", "odd@lvm", "is", "on", "n2"],
    ]
    done = _zmqctl("hosts", "nothing", "--config-file", config)
    assert (done.exit_code, "nobody serves nothing" in done.output) == (1, True)
    done = _zmqctl("services", "--config-file", config)
    assert (done.exit_code, "name a store that does with --store" in done.output) == (1, True)
    fabric.stop("n1")
    done = _zmqctl("hosts", "compute", "--config-file", config)
    assert (done.exit_code, "is oslo-messaging-zmq-receiver running?" in done.output) == (1, True)


@pytest.fixture
def consul_fabric(make_fabric: Callable[..., Fabric], make_consul: Callable[..., ConsulAgent]) -> Fabric:
    agent = make_consul()
    options = {"rpc_zmq_matchmaker": "consul", "zmq_target_update": 1, "zmq_target_expire": 4}
    fabric = make_fabric(nodes=2, options=options)
    write = fabric.config_file

    def config_file(node: str, **more: object) -> Any:
        path = write(node, zmq_state_dir=fabric.directory / f"{node}.state", **more)
        path.write_text(path.read_text() + f"[matchmaker_consul]\nhost = {agent.host}\nport = {agent.port}\n")
        return path

    fabric.config_file = config_file  # type: ignore[method-assign]
    fabric.start()
    return fabric


def test_services_tells_who_is_alive_and_who_died(consul_fabric: Fabric) -> None:
    fabric = consul_fabric
    for node in fabric.addresses:
        fabric.server(node, "compute", Endpoint())
    config = fabric.config_file("n1")

    def states() -> dict[str, bool]:
        done = _zmqctl("services", "--config-file", config, "--topic", "compute", "--json")
        assert done.exit_code == 0, done.output
        return {found["server"]: found["alive"] for found in json.loads(done.output)}

    eventually(lambda: states() == {"n1": True, "n2": True})
    fabric.kill("n2")
    eventually(lambda: states() == {"n1": True, "n2": False}, within=20)
    shown = _zmqctl("services", "--config-file", config).output
    assert [line.split()[:4] for line in shown.splitlines() if "compute" in line] == [
        ["compute", "n1", "n1", "alive"],
        ["compute", "n2", "n2", "dead"],
    ]


def test_what_a_receiver_holds_is_shown_and_released(consul_fabric: Fabric) -> None:
    fabric = consul_fabric
    fabric.server("n2", "compute", Endpoint())
    config = fabric.config_file("n1")
    eventually(lambda: _zmqctl("hosts", "compute", "--config-file", config).exit_code == 0)
    fabric.kill("n2")
    eventually(lambda: "held: n2" in _zmqctl("ring", "held", "--config-file", config).output, within=20)
    assert _zmqctl("ring", "release", "compute", "--config-file", config).exit_code == 0
    eventually(lambda: _zmqctl("hosts", "compute", "--config-file", config).exit_code == 1)
    done = _zmqctl("ring", "release", "compute", "--config-file", config)
    assert (done.exit_code, "nothing of compute is held" in done.output) == (1, True)


def _config(directory: Path, matchmaker: str, **store: object) -> Path:
    """A zeromq.conf whose store is `store`; nothing runs there."""
    path = directory / "zeromq.conf"
    group = "matchmaker_consul" if matchmaker == "consul" else "matchmaker_redis"
    lines = ["[oslo_messaging_zmq]", "rpc_zmq_host = n1", f"rpc_zmq_matchmaker = {matchmaker}", "zmq_security = none"]
    path.write_text("\n".join([*lines, f"[{group}]", *(f"{name} = {value}" for name, value in store.items()), ""]))
    return path


@pytest.fixture(scope="module")
def guarded() -> Iterator[ConsulAgent]:
    """An agent that denies everything without a token."""
    with ConsulAgent(acl=True) as agent:
        yield agent


@pytest.mark.parametrize(
    ("mode", "rules", "missing"),
    [
        ("catalog", {}, 'it needs service_prefix "" read and node_prefix "" read'),
        ("catalog", {"service_prefix": {"": {"policy": "read"}}}, 'it needs service_prefix "" read and node_prefix "" read'),
        ("kv", {}, "403"),
    ],
)
def test_services_fails_and_names_the_token_when_it_lacks_the_right_to_read(
    tmp_path: Path, guarded: ConsulAgent, mode: str, rules: dict[str, Any], missing: str
) -> None:
    config = _config(tmp_path, "consul", host=guarded.host, port=guarded.port, mode=mode, token=guarded.make_token(rules))
    done = _zmqctl("services", "--config-file", config)
    assert (done.exit_code, missing in done.output) == (1, True), done.output
    assert "[matchmaker_consul] token" in done.output
    assert "there?" not in done.output


def test_services_names_the_options_when_the_store_does_not_let_in(
    tmp_path: Path, guarded: ConsulAgent, make_redis: Callable[..., RedisServer]
) -> None:
    done = _zmqctl("services", "--config-file", _config(tmp_path, "consul", host=guarded.host, port=guarded.port, token=uuid4()))
    assert (done.exit_code, done.output.strip().endswith("see [matchmaker_consul] token")) == (1, True), done.output
    redis = make_redis(password="right", acl_users={"narrow": "on >right ~zmq:* +ping"})
    for login in ({"password": "wrong"}, {"username": "narrow", "password": "right"}, {}):
        done = _zmqctl("services", "--config-file", _config(tmp_path, "redis", host=redis.host, port=redis.port, **login))
        assert (done.exit_code, "see [matchmaker_redis] username and password" in done.output) == (1, True), done.output
        assert "there?" not in done.output
    redis.stop()
    done = _zmqctl("services", "--config-file", _config(tmp_path, "redis", host=redis.host, port=redis.port))
    assert (done.exit_code, done.output.strip().endswith("is redis there?")) == (1, True), done.output
