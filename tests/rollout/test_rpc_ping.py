"""Module zmq_rpc_ping and zmqctl ping: real calls through real receivers, and what is said when nobody answers."""

import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from fabric import eventually

from openstack_zeromq.cli import ping as zmqctl_ping
from openstack_zeromq.cli.ping import Question

from .conftest import CHECKOUT, load

rpc_ping = load(CHECKOUT / "library" / "zmq_rpc_ping.py")

ZMQCTL = Path(sys.executable).parent / "zmqctl"


class Slow:
    """Knows no ping, and has a call that ends only when the test does."""

    def __init__(self):
        self.over = threading.Event()

    def sleep(self, _ctxt):
        self.over.wait(60)


@pytest.fixture
def ask(run_module):
    """In check mode: it changes nothing either way."""

    def ask(fabric, node="n1", **arguments):
        return run_module(rpc_ping, check=True, config_files=[str(fabric.config_file(node))], **{"timeout": 4, **arguments})

    return ask


@contextmanager
def probe(fabric, node):
    """The probe of `node`."""
    config = fabric.config_file(node)
    with subprocess.Popen([ZMQCTL, "probe", "serve", "--config-file", config], stderr=subprocess.DEVNULL) as serving:
        try:
            eventually(lambda: any("zmq-probe" in channel for channel in fabric.status(node)["channels"]), within=30)
            yield
        finally:
            serving.terminate()


@pytest.fixture
def fabric(make_fabric):
    return make_fabric(nodes=2, ring={"zmq-probe": ["n1", "n2"], "compute": ["n2"]})


def test_the_probe_answers_with_its_name_and_the_times_are_in_order(fabric, ask):
    with probe(fabric, "n2"):
        told = ask(fabric, server="n2", timeout=20)
        assert told["answered_by"] == ["n2"], told
        assert 0 < told["latency_ms"]["min"] <= told["latency_ms"]["median"] <= told["latency_ms"]["max"]
        assert not told["changed"]
        assert ask(fabric, timeout=20, count=1)["answered_by"] == ["n2"]
        shown = subprocess.run(
            [ZMQCTL, "ping", "--config-file", fabric.config_file("n1"), "--server", "n2"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.startswith("topic zmq-probe on n2: answered by n2, 3 calls, min ")
        assert shown.stderr == ""


def test_a_service_that_does_not_know_the_method_has_answered(fabric, ask):
    fabric.server("n2", "compute", Slow())
    told = ask(fabric, topic="compute", exchange="openstack", timeout=20)
    assert "ping" in told["remote_error"]
    assert told["answered_by"] == []


def test_it_says_that_nobody_serves_the_topic(fabric, ask):
    told = ask(fabric, topic="nothing")
    assert told["failed"]
    assert "topic nothing: no answer within 4 s" in told["msg"]
    assert "the matchmaker knows no host of nothing; start a service" in told["msg"]
    assert told["receiver"]


def test_it_says_that_the_link_is_down(fabric, ask):
    fabric.stop("n2")
    told = ask(fabric, topic="compute")["msg"]
    assert "the link to n2 is" in told
    assert "nobody listens there" not in told, "who knows"
    shown = fabric.status("n1")["links"]["n2"]["why"] or "is the receiver of n2 running"
    assert shown in ask(fabric, server="n2")["msg"]


def test_it_says_that_nobody_listens_there(fabric, ask):
    told = ask(fabric, topic="compute")
    assert "nobody listens there; the link to n2 is up" in told["msg"]
    assert "n1 is this node, where nobody listens to zmq-probe" in ask(fabric, server="n1")["msg"]


def test_it_says_that_the_server_is_none_that_it_knows(fabric, ask):
    told = ask(fabric, server="n3")
    assert "n3 is no host of zmq-probe and no server that n1 knows: was it removed or revoked" in told["msg"]
    assert "is no host" not in ask(fabric, server="n2")["msg"]


def test_it_ends_in_time_when_a_service_hangs(fabric, ask):
    slow = Slow()
    fabric.server("n2", "compute", slow)
    told = ask(fabric, topic="compute", exchange="openstack", method="sleep")
    slow.over.set()
    assert "no answer within 4 s; the link to n2 is up" in told["msg"]


def test_it_says_that_no_receiver_runs_here(fabric, ask):
    fabric.stop("n1")
    told = ask(fabric, server="n2", timeout=60)  # and says so at once
    assert "is oslo-messaging-zmq-receiver running?" in told["msg"]
    assert not told["receiver"]


def test_what_cannot_be_asked_is_refused(fabric, ask, run_module, tmp_path):
    assert "count must be 1 or more" in ask(fabric, count=0)["msg"]
    told = run_module(rpc_ping, config_files=[str(tmp_path / "none.conf")])
    assert "none.conf' does not exist" in told["msg"]
    bad = tmp_path / "bad.conf"
    bad.write_text("[oslo_messaging_zmq]\nrpc_zmq_host =\n")
    assert "rpc_zmq_host" in run_module(rpc_ping, config_files=[str(bad)])["msg"]


@pytest.mark.parametrize(
    ("server", "hosts"),
    [("", ["n1", "n2"]), ("n1", ["n1"]), ("n3", ["n3"]), ("odd@lvm", ["n2"]), ("unknown", ["n1", "n2"])],
)
def test_those_who_should_have_answered_are_named(server, hosts):
    found = {"hosts": {"n1": {}, "n2": {}}, "servers": {"odd@lvm": ["n2"]}, "known": True, "problem": ""}
    status = {"node": "n1", "links": {"n2": {"state": "up"}, "n3": {"state": "down"}}, "channels": {}}
    sentences = list(zmqctl_ping._known(Question("t", server), found, status))
    if server == "unknown":
        assert sentences.pop(0).startswith("unknown is no host of t and no server that n1 knows")
    assert [next(host for host in ("n1", "n2", "n3") if host in sentence) for sentence in sentences] == hosts
