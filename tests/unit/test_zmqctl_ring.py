"""zmqctl ring: show, validate, diff and held, on files."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.shape import Held, Published
from openstack_zeromq.cli.ring import ring
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.ring_file import Endpoint

PUBLISHED = Published(
    {"compute": ("c1", "c2")},
    {"c1": Endpoint("10.0.0.1", 9501)},
    source="consul 127.0.0.1:8500",
    generation=7,
    held={"compute": Held(("c2",), "no host is left", 1_700_000_000)},
    problem="consul 127.0.0.1:8500: Connection refused",
)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(ring, [str(argument) for argument in arguments])


def _write(path: Path, published: Published = PUBLISHED) -> Path:
    data, meta = shape.render(published)
    ring_file.write(path, data)
    ring_file.write(ring_file.meta_path(path), meta)
    return path


def test_show_tells_topics_hosts_what_is_held_and_where_it_comes_from(tmp_path: Path) -> None:
    done = _run("show", "--ringfile", _write(tmp_path / "ring.json"))
    assert done.exit_code == 0
    for words in (
        "compute",
        "c1, c2",
        "from consul 127.0.0.1:8500, generation 7",
        "may be old: consul 127.0.0.1:8500: Connection",
    ):
        assert words in done.output


def test_show_says_when_the_receiver_does_not_read_the_ring(tmp_path: Path) -> None:
    ring, config = _write(tmp_path / "ring.json"), tmp_path / "zeromq.conf"
    for matchmaker, told in (("redis", True), ("ring", False)):
        config.write_text(f"[oslo_messaging_zmq]\nrpc_zmq_matchmaker = {matchmaker}\n[matchmaker_ring]\nringfile = {ring}\n")
        done = _run("show", "--config-file", str(config))
        assert done.exit_code == 0
        assert ("does not read it: its matchmaker is redis; zmqctl hosts asks that" in done.output) == told


def test_held_tells_why_since_when_and_how_to_let_go(tmp_path: Path) -> None:
    path = _write(tmp_path / "ring.json")
    done = _run("held", "--ringfile", path)
    assert done.exit_code == 0
    for words in ("held: c2", "no host is left", "2023-11-14 22:13:20 UTC", f"zmqctl ring release --ringfile {path} compute"):
        assert words in done.output
    assert "nothing is held" in _run("held", "--ringfile", _write(path, Published({"a": ("x",)}))).output


def test_a_ring_that_is_not_there_is_one_line_that_says_how_to_get_one(tmp_path: Path) -> None:
    for command in (["show"], ["held"], ["release", "compute"]):
        done = _run(*command, "--ringfile", tmp_path / "none.json")
        assert done.exit_code == 1
        assert "zmqctl ring sync writes one" in done.output
    assert _run("show").exit_code == 2


def test_diff_shows_hosts_and_its_status_tells_whether_there_are_any(tmp_path: Path) -> None:
    one = _write(tmp_path / "one.json")
    other = _write(tmp_path / "other.json", Published({"compute": ("c2", "c3")}))
    assert _run("diff", one, one).exit_code == 0
    done = _run("diff", one, other)
    assert (done.exit_code, done.output.split()) == (1, ["compute", "-", "c1", "+", "c3"])


def test_a_ring_and_its_side_car_are_valid_as_we_write_them(tmp_path: Path) -> None:
    path = _write(tmp_path / "ring.json")
    assert _run("validate", path).exit_code == 0
    ring_file.meta_path(path).unlink()
    assert _run("validate", path).exit_code == 0


@pytest.mark.parametrize(
    ("ring_text", "words"),
    [
        ('{"a": ["x"],\n "b": [}\n', "line 2 column 8"),
        ('{"a": []}', "non-empty list"),
        ('{"a": ["x"], "a": ["y"]}', "there twice"),
        ("[]", "must be a JSON object"),
        ("", "line 1 column 1"),
        ("\x00", "line 1 column 1"),
    ],
)
def test_the_first_fault_of_a_ring_is_named(tmp_path: Path, ring_text: str, words: str) -> None:
    path = tmp_path / "ring.json"
    path.write_text(ring_text)
    done = _run("validate", _write(tmp_path / "good.json"), path)
    assert done.exit_code == 1
    assert words in done.output
    assert "good.json: a whole ring" in done.output


def test_the_faults_of_a_side_car_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "ring.json")
    meta = ring_file.meta_path(path)
    facts = json.loads(meta.read_bytes())
    for changed, words in (
        ({"sha256": "0"}, "sha256 of another ring"),
        ({"hosts": {"c1": {"address": ""}}}, "no address"),
        ({"held": {"compute": {"why": "no reason"}}}, "not usable"),
    ):
        meta.write_text(json.dumps({**facts, **changed}))
        done = _run("validate", path)
        assert done.exit_code == 1
        assert words in done.output
    for nothing in (tmp_path, tmp_path / "none.json"):
        assert _run("validate", nothing).exit_code == 1


@pytest.mark.parametrize(
    "address",
    ["10.0.0.300", "1.2.3", "10.0.0.1:9501", "http://c1", "c 1", "-c1", "::", "224.0.0.1", "fe80::1%eth0", "a" * 64],
)
def test_validate_refuses_a_side_car_with_an_impossible_address(tmp_path: Path, address: str) -> None:
    path = _write(tmp_path / "ring.json", Published({"compute": ("c1",)}, {"c1": Endpoint(address, 9501)}, source="me"))
    done = _run("validate", path)
    assert done.exit_code == 1
    assert f"its side-car ring.meta.json: hosts: c1 has the impossible address {address!r}" in done.output


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "c1", "c1.example.com", "node_1", "127.0.0.1"])
def test_validate_takes_every_address_that_can_be_dialled(tmp_path: Path, address: str) -> None:
    path = _write(tmp_path / "ring.json", Published({"compute": ("c1",)}, {"c1": Endpoint(address, None)}, source="me"))
    assert _run("validate", path).exit_code == 0


def test_validate_knows_a_side_car_that_is_named_instead_of_its_ring(tmp_path: Path) -> None:
    """Before: `ring topic 'generation': hosts must be a non-empty list`."""
    path = _write(tmp_path / "ring.json")
    meta = ring_file.meta_path(path)
    assert _run("validate", meta).output == f"{meta}: a side-car that counts, beside a whole ring\n"
    moved = meta.rename(tmp_path / "facts.json")
    done = _run("validate", moved)
    assert done.exit_code == 1
    assert "this is a side-car, not a ring; it counts only beside its ring, as <ring>.meta.json" in done.output
    moved.rename(meta)
    path.write_text('{"compute": ["c9"]}')
    assert "has the sha256 of another ring" in _run("validate", meta).output
    path.unlink()
    assert "No such file" in _run("validate", meta).output
