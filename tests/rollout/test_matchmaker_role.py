"""Role zeromq_matchmaker: what it writes is what the package reads, and what cannot work is refused before that."""

import json
import re
import socket
import sys
from contextlib import contextmanager

import pytest
import yaml
from oslo_config import cfg
from servers import ConsulAgent, RedisServer, SentinelGroup

from openstack_zeromq import options
from openstack_zeromq.options import store_url

from . import test_roles
from .conftest import CHECKOUT

PASSWORD = "'p$w ,#\"'"
BACKENDS = {
    "ring": {},
    "catalog": {"zeromq_matchmaker_consul_services": {"nova-compute": "compute", "nova-scheduler": "scheduler"}},
    "redis": {"zeromq_matchmaker_redis_host": "127.0.0.1", "zeromq_matchmaker_redis_password": PASSWORD},
    "sentinel": {"zeromq_matchmaker_redis_password": PASSWORD, "zeromq_matchmaker_sentinel_password": ""},
    "consul": {"zeromq_matchmaker_consul_token": "t"},
    "dummy": {},
}


@pytest.fixture
def role(playbook, tmp_path):
    """Run phases of the role for two nodes of this machine; returns the finished process."""
    nodes = {f"n{n}": {"zeromq_receiver_bind_address": f"127.0.0.{60 + n}"} for n in (1, 2)}
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"zeromq": {"hosts": nodes, "vars": {"ansible_connection": "local"}}, "computes": {"hosts": {"n2": {}}}})
    )

    def run(*arguments, phases=("validate", "configure"), **variables):
        tasks = [
            {"name": phase, "ansible.builtin.import_role": {"name": "zeromq_matchmaker", "tasks_from": phase}} for phase in phases
        ]
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "n1", "gather_facts": False, "tasks": tasks}]))
        values = {
            "ansible_python_interpreter": sys.executable,
            "zeromq_matchmaker_python": sys.executable,
            "zeromq_matchmaker_config": str(tmp_path / "etc" / "zeromq-matchmaker.conf"),
            "zeromq_matchmaker_config_owner": "",
            "zeromq_matchmaker_config_group": "",
            "zeromq_matchmaker_manager": "supervisor",
            "zeromq_matchmaker_supervisor_dir": str(tmp_path / "supervisor"),
            "zeromq_matchmaker_log_dir": str(tmp_path / "log"),
            "zeromq_matchmaker_receiver_config": str(tmp_path / "etc" / "zeromq.conf"),
            "zeromq_matchmaker_ringfile": str(tmp_path / "etc" / "ring.json"),
            "zeromq_matchmaker_topics": {"compute": "computes", "zmq-probe": "zeromq"},
            **variables,
        }
        extra = ["--extra-vars", json.dumps(values)]
        return playbook("--inventory", tmp_path / "hosts.yml", *extra, *arguments, tmp_path / "play.yml")

    return run


@pytest.fixture
def consul():
    with ConsulAgent() as agent:
        yield agent.port


@contextmanager
def store(backend):
    """A real store, and the inputs that say where it is."""
    if backend == "redis":
        with RedisServer(password=PASSWORD) as server:
            yield {"zeromq_matchmaker_redis_port": server.port}
    elif backend == "sentinel":
        with SentinelGroup(password=PASSWORD) as group:
            away = "127.0.0.1:1"  # one that is down is no harm
            sentinels = [away, *(f"{host}:{port}" for host, port in group.addresses)]
            yield {"zeromq_matchmaker_sentinel_hosts": sentinels, "zeromq_matchmaker_sentinel_name": group.group}
    elif backend in {"catalog", "consul"}:
        with ConsulAgent() as agent:
            yield {"zeromq_matchmaker_consul_url": f"http://127.0.0.1:{agent.port}"}
    else:
        yield {}


def settings(*files):
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    conf([argument for file in files for argument in ("--config-file", str(file))])
    return options.settings(conf), conf


def changed(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"changed=(\d+)", done.stdout)[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_written_is_what_the_receiver_reads(role, tmp_path, backend):
    with store(backend) as place:
        written_and_read(role, tmp_path, backend, {**BACKENDS[backend], **place})


def written_and_read(role, tmp_path, backend, inputs):
    asked = {"zeromq_matchmaker_backend": backend, "zeromq_matchmaker_fabric": "f1", **inputs}
    file = tmp_path / "etc" / "zeromq-matchmaker.conf"
    assert changed(role("--check", **asked)) > 0
    assert not file.exists()
    done = role("--diff", **asked)
    assert changed(done) > 0
    assert "p$w" not in done.stdout
    assert changed(role(**asked)) == 0
    assert file.stat().st_mode & 0o777 == 0o640
    read, conf = settings(file)
    assert read.fabric == "f1"
    assert read.matchmaker == ("ring" if backend == "catalog" else backend)
    assert (tmp_path / "etc" / "ring.json").exists() == (backend in {"ring", "catalog"})
    if backend in {"redis", "sentinel"}:
        assert conf.matchmaker_redis.password == PASSWORD
    if backend == "catalog":
        assert conf.matchmaker_consul.services == {"nova-compute": "compute", "nova-scheduler": "scheduler"}
        assert read.ring_topics == ("compute", "zmq-probe")
    if backend in {"catalog", "consul"}:
        assert conf.matchmaker_consul.port == int(inputs["zeromq_matchmaker_consul_url"].rpartition(":")[2])


def test_a_first_check_mode_run_shows_the_ring(role, tmp_path):
    done = role("--check", "--diff", zeromq_matchmaker_python="/nowhere/python")
    assert changed(done) > 0
    assert not (tmp_path / "etc").exists()
    role()
    for line in (tmp_path / "etc" / "ring.json").read_text().splitlines():
        assert f"+{line}" in done.stdout.splitlines(), done.stdout


def test_every_matchmaker_of_the_package_can_be_chosen():
    choices = next(opt.type.choices for _, opts in options.list_opts() for opt in opts if opt.name == "rpc_zmq_matchmaker")
    inputs = test_roles.options(CHECKOUT / "roles" / "zeromq_matchmaker")
    assert set(inputs["zeromq_matchmaker_backend"]["choices"]) == {*choices, "catalog"} == set(BACKENDS)


def test_the_file_is_checked_together_with_that_of_the_receiver(role, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "zeromq.conf").write_text("[oslo_messaging_zmq]\nzmq_security = none\n")
    assert changed(role()) > 0
    done = role(zeromq_matchmaker_extra_options={"oslo_messaging_zmq": {"zmq_fabrik": "x"}})
    assert done.returncode != 0
    assert "zmq_fabrik" in done.stdout
    assert "zmq_fabrik" not in (tmp_path / "etc" / "zeromq-matchmaker.conf").read_text(), "the good one stays"


def test_the_catalogs_ring_is_not_overwritten(role, tmp_path, consul):
    asked = {"zeromq_matchmaker_backend": "catalog", "zeromq_matchmaker_consul_url": f"http://127.0.0.1:{consul}"}
    role(**asked)
    ring = tmp_path / "etc" / "ring.json"
    ring.write_text('{"compute": ["n9"]}\n')
    assert changed(role(**asked)) == 0
    assert ring.read_text() == '{"compute": ["n9"]}\n'


@pytest.mark.parametrize(
    ("variables", "messages"),
    [
        ({"zeromq_matchmaker_backend": "rabbit"}, ["must be one of: ring, catalog, redis, sentinel, consul, dummy"]),
        (
            {
                "zeromq_matchmaker_backend": "redis",
                "zeromq_matchmaker_fabric": "a b",
                "zeromq_matchmaker_topics": {"t": "nobody"},
            },
            [
                "zeromq_matchmaker_redis_host is empty: put a host into the group zeromq_redis",
                "zeromq_matchmaker_fabric must be 1 to 40 letters",
                "names nobody, which is no group and no node of the inventory",
            ],
        ),
        (
            {"zeromq_matchmaker_backend": "sentinel", "zeromq_matchmaker_sentinel_hosts": ["a:1", "b:1"]},
            ["has 2, and fewer than three cannot tell a dead master from a cut network"],
        ),
        (
            {
                "zeromq_matchmaker_backend": "redis",
                "zeromq_matchmaker_redis_host": "127.0.0.1",
                "zeromq_matchmaker_redis_port": 1,
                "zeromq_matchmaker_timeout": 1,
            },
            ["redis at 127.0.0.1:1 does not answer within 1 s (Connection refused): start it, open its port, or correct"],
        ),
        (
            {
                "zeromq_matchmaker_backend": "consul",
                "zeromq_matchmaker_consul_url": "consul:8500",
                "zeromq_matchmaker_consul_mode": "kv",
                "zeromq_matchmaker_expire": 12.0,
            },
            ["zeromq_matchmaker_consul_url must be http://host:port", "zeromq_matchmaker_update (is 15.0)"],
        ),
        (
            {"zeromq_matchmaker_backend": "catalog", "zeromq_matchmaker_topics": {}},
            ["zeromq_matchmaker_catalog_topics is empty"],
        ),
    ],
    ids=["backend", "redis", "sentinel", "nobody answers", "consul", "catalog"],
)
def test_inputs_that_cannot_work_are_refused(role, tmp_path, variables, messages):
    done = role(**variables)
    assert done.returncode != 0, done.stdout
    for message in messages:
        assert message in " ".join((done.stdout + done.stderr).split())
    assert not (tmp_path / "etc").exists(), "nothing may be written"


@pytest.mark.parametrize(
    ("family", "address", "port", "named"),
    [
        (socket.AF_INET6, "::1", 0, "[::1]:{port}"),
        (socket.AF_INET6, "::1", 26379, "[::1]"),
        (socket.AF_INET, "127.0.0.77", 26379, "127.0.0.77"),
    ],
)
def test_sentinels_are_looked_for_where_the_receiver_looks_for_them(role, family, address, port, named):
    """Before: those at bracketed addresses and those without a port were refused."""
    with socket.create_server((address, port), family=family) as there:
        sentinel = named.format(port=there.getsockname()[1])
        assert store_url.sentinel(sentinel) == (address, there.getsockname()[1])
        sentinels = [sentinel, "127.0.0.1:1", "127.0.0.1:2"]
        variables = {"zeromq_matchmaker_backend": "sentinel", "zeromq_matchmaker_sentinel_hosts": sentinels}
        done = role(phases=("validate",), zeromq_matchmaker_timeout=1, **variables)
        # What listens there accepts connections and is no Sentinel.
        found = f"sentinel at {address}:{there.getsockname()[1]} does not answer within 1 s (no answer)"
        assert found in " ".join(done.stdout.split()), done.stdout


def test_stores_of_the_inventory_are_found_and_need_not_run_yet(role, tmp_path):
    groups = {
        name: {"hosts": {"n1": {}, "n2": {}, "n3": {"ansible_host": "192.0.2.3"}}} for name in ("zeromq_redis", "zeromq_sentinel")
    }
    inventory = yaml.safe_load((tmp_path / "hosts.yml").read_text())
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({**inventory, **groups}))
    for backend in ("redis", "sentinel"):
        assert changed(role(zeromq_matchmaker_backend=backend, zeromq_redis_password="geheim")) > 0
        _, conf = settings(tmp_path / "etc" / "zeromq-matchmaker.conf")
        assert conf.matchmaker_redis.password == "geheim"
    assert conf.matchmaker_redis.sentinel_hosts == ["127.0.0.61:26390", "127.0.0.62:26390", "192.0.2.3:26390"]


def test_everything_is_taken_away(role, tmp_path):
    role()
    assert list((tmp_path / "etc").iterdir())
    assert changed(role(phases=("main",), zeromq_matchmaker_state="absent")) > 0
    assert not list((tmp_path / "etc").iterdir())
    assert changed(role(phases=("main",), zeromq_matchmaker_state="absent")) == 0
