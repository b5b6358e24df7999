"""The ring file: what an old reader can live with, whole or not at all."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openstack_zeromq.errors import RingError
from openstack_zeromq.matchmaker import ring as ring_module
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.ring import RingMatchmaker

HOST = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
RINGS = st.dictionaries(st.text(min_size=1), st.lists(HOST), max_size=8)


@given(RINGS)
def test_every_ring_we_write_satisfies_the_icehouse_reader(ring: dict[str, list[str]]) -> None:
    """Its rules: a JSON object, every value a list it can take the first of, every entry a host name."""
    data = ring_file.render(ring)
    assert data.endswith(b"\n")
    read = json.loads(data)
    assert list(read) == sorted(read)
    for hosts in read.values():
        assert hosts[0]
        assert hosts == sorted(set(hosts))
    assert ring_file.parse(data) == {topic: tuple(sorted(set(hosts))) for topic, hosts in ring.items() if hosts}


def test_a_ring_that_was_cut_anywhere_is_refused() -> None:
    data = ring_file.render({"compute": ["c1", "c2"], "cinder-volume:c1": ["c1"]})
    for end in range(len(data) - 1):
        if data[:end].strip() != data.strip():
            with pytest.raises(RingError):
                ring_file.parse(data[:end])


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"[]", b'{"a": []}', b'{"a": "b"}', b'{"a": [1]}', b'{"a": [""]}', b'{"": ["a"]}', b"\xff", b"[" * 10**5]
)
def test_what_is_no_ring_is_refused(data: bytes) -> None:
    with pytest.raises(RingError):
        ring_file.parse(data)


def test_hosts_given_as_a_string_are_an_error_and_not_a_list_of_letters() -> None:
    with pytest.raises(RingError, match="must be a list"):
        ring_file.render({"compute": "c1"})


def test_a_side_car_counts_only_for_its_own_ring() -> None:
    ring, other = ring_file.render({"a": ["x"]}), ring_file.render({"a": ["y"]})
    meta = ring_file.render_meta(ring, {"x": {"address": "10.0.0.1", "port": 9501}}, "test")
    assert ring_file.parse_meta(meta, ring) == {"x": ring_file.Endpoint("10.0.0.1", 9501)}
    assert ring_file.parse_meta(meta, other) == {}
    with pytest.raises(RingError):
        ring_file.render_meta(ring, {"x": {"address": "10.0.0.1", "port": 95010}}, "test")


def test_writing_changes_a_file_only_when_it_must_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    assert ring_file.write(path, b"one\n")
    assert not ring_file.write(path, b"one\n")
    inode = path.stat().st_ino
    assert ring_file.write(path, b"two\n", 0o640)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.stat().st_ino != inode) == (b"two\n", 0o640, True)
    assert list(tmp_path.iterdir()) == [path]


def _ring(path: Path, **topics: list[str]) -> RingMatchmaker:
    ring_file.write(path, ring_file.render(topics))
    return RingMatchmaker(str(path), str(path.parent / "state"))


def test_a_changed_ring_is_seen_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    matchmaker = _ring(path, compute=["c1"])
    assert not matchmaker.refresh()
    ring_file.write(path, ring_file.render({"compute": ["c1", "c2"]}))
    assert matchmaker.refresh()
    assert matchmaker.hosts("compute") == ("c1", "c2")
    for broken in (b"", b'{"compute": ["c', b'{"compute": []}'):
        path.write_bytes(broken)
        assert not matchmaker.refresh()
        assert matchmaker.hosts("compute") == ("c1", "c2")
        assert str(path) in matchmaker.problem
    path.unlink()
    assert not matchmaker.refresh()
    assert matchmaker.problem
    ring_file.write(path, ring_file.render({"compute": ["c3"]}))
    assert matchmaker.refresh()
    assert (matchmaker.hosts("compute"), matchmaker.problem) == (("c3",), "")


def test_an_address_that_changes_alone_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    matchmaker = _ring(path, compute=["c1"])
    for address in ("10.0.0.1", "10.0.0.2"):
        meta = ring_file.render_meta(path.read_bytes(), {"c1": {"address": address}}, "test")
        ring_file.write(ring_file.meta_path(path), meta)
        assert matchmaker.refresh()
        assert matchmaker.endpoint("c1") == ring_file.Endpoint(address)


def test_a_server_is_looked_for_where_it_is_named_then_where_the_ring_says_then_on_its_topics_hosts(tmp_path: Path) -> None:
    matchmaker = _ring(tmp_path / "ring.json", **{"volume": ["c1", "c2"], "volume:odd@lvm": ["c2"]})
    assert matchmaker.directed("volume", "c2") == ("c2",)
    assert matchmaker.directed("volume", "odd@lvm") == ("c2",)
    assert matchmaker.directed("volume", "other@lvm") == ("c1", "c2")
    assert matchmaker.directed("nothing", "other") == ()


def test_a_directory_a_fifo_and_nothing_at_all_are_no_ring(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in (".", "fifo", "missing", "dangling"):
        matchmaker = RingMatchmaker(str(tmp_path / name), str(tmp_path / "state"))
        assert matchmaker.hosts("compute") is None, "that nobody serves it is not known"
        assert str(tmp_path / name) in matchmaker.problem


def test_a_symlink_to_a_ring_is_a_ring(tmp_path: Path) -> None:
    ring_file.write(tmp_path / "real.json", ring_file.render({"compute": ["c1"]}))
    (tmp_path / "link.json").symlink_to("real.json")
    assert RingMatchmaker(str(tmp_path / "link.json"), str(tmp_path / "state")).hosts("compute") == ("c1",)


@pytest.mark.parametrize("in_its_place", ["nothing", "directory", "fifo", "half", "dangling symlink"])
def test_a_start_without_a_good_ring_goes_on_with_the_last_one(tmp_path: Path, in_its_place: str) -> None:
    path = tmp_path / "ring.json"
    data = ring_file.render({"compute": ["c1", "c2"]})
    ring_file.write(ring_file.meta_path(path), ring_file.render_meta(data, {"c1": {"address": "10.0.0.1"}}, "test"))
    ring_file.write(path, data)
    RingMatchmaker(str(path), str(tmp_path / "state")).close()
    path.unlink()
    match in_its_place:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "half":
            path.write_bytes(data[:-7])
        case "dangling symlink":
            path.symlink_to(tmp_path / "nowhere")
    matchmaker = RingMatchmaker(str(path), str(tmp_path / "state"))
    assert (matchmaker.hosts("compute"), matchmaker.endpoint("c1")) == (("c1", "c2"), ring_file.Endpoint("10.0.0.1"))
    assert matchmaker.status()["stale"] == ["compute"]
    assert matchmaker.problem


def test_a_ring_cut_off_at_any_byte_keeps_the_last_good(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    matchmaker = _ring(path, compute=["c1"])
    data = ring_file.render({"compute": ["c8", "c9"], "volume": ["c8"]})
    for length in range(len(data) - 1):
        path.write_bytes(data[:length])
        matchmaker.refresh()
        assert matchmaker.hosts("compute") == ("c1",), length
        assert matchmaker.problem
    path.write_bytes(data)
    assert matchmaker.refresh()
    assert matchmaker.hosts("compute") == ("c8", "c9")


def test_a_ring_that_lost_every_topic_is_held(tmp_path: Path) -> None:
    matchmaker = _ring(tmp_path / "ring.json", compute=["c1"])
    ring_file.write(tmp_path / "ring.json", b"{}\n")
    assert not matchmaker.refresh()
    assert matchmaker.hosts("compute") == ("c1",)
    assert "no topic any more" in matchmaker.problem
    ring_file.write(ring_file.meta_path(tmp_path / "ring.json"), ring_file.render_meta(b"{}\n", {}, "somebody who means it"))
    assert matchmaker.refresh()
    assert (matchmaker.hosts("compute"), matchmaker.problem) == ((), "")


def test_a_ring_of_four_megabytes_is_read(tmp_path: Path) -> None:
    hosts = [f"compute-{number:06}" for number in range(100_000)]
    data = ring_file.render({"compute": hosts, "scheduler": hosts})
    assert len(data) > 4 * 1024 * 1024
    ring_file.write(tmp_path / "ring.json", data)
    assert RingMatchmaker(str(tmp_path / "ring.json"), str(tmp_path / "state")).hosts("compute") == tuple(hosts)


def test_a_ring_that_is_too_large_is_refused_by_reader_and_writer_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_file, "MAX_BYTES", 2**20)
    large = {f"topic{number}": [f"compute-{host:05d}" for host in range(13_000)] for number in range(6)}
    remedy = "the ring has more than 1 MiB: leave out topics that are only called with a host's name as the server"
    with pytest.raises(RingError, match=remedy):
        ring_file.render(large)
    path = tmp_path / "ring.json"
    path.write_text(json.dumps({"compute": ["c1"]}))
    matchmaker = RingMatchmaker(str(path), str(tmp_path / "state"))
    path.write_text(json.dumps(large))
    matchmaker.refresh()
    assert remedy in matchmaker.problem
    assert "the last good ring is kept" in matchmaker.problem
    assert set(matchmaker.view.topics) == {"compute"}
    ring_file.meta_path(path).write_bytes(b"{" + b" " * 2**20 + b"}")
    path.write_text(json.dumps({"compute": ["c2"]}))
    matchmaker.refresh()
    assert "the ring's side-car has more than 1 MiB" in matchmaker.problem
    matchmaker.close()


def test_a_ring_that_could_not_be_read_for_a_moment_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matchmaker = _ring(tmp_path / "ring.json", compute=["c1"])
    ring_file.write(tmp_path / "ring.json", ring_file.render({"compute": ["c2"]}))
    real, failures = os.open, [OSError(errno.EMFILE, "Too many open files")] * 2

    def failing(*arguments: Any, **more: Any) -> int:
        if failures:
            raise failures.pop()
        return real(*arguments, **more)

    monkeypatch.setattr(ring_module.os, "open", failing)
    assert not matchmaker.refresh()
    assert "Too many open files" in matchmaker.problem
    assert not matchmaker.refresh()
    assert matchmaker.refresh()
    assert (matchmaker.hosts("compute"), matchmaker.problem) == (("c2",), "")
    matchmaker.close()


def test_nodes_that_share_a_state_directory_remember_each_its_own(tmp_path: Path) -> None:
    for host in ("n1", "n2"):
        ring_file.write(tmp_path / f"{host}.json", ring_file.render({"compute": [host]}))
        RingMatchmaker(str(tmp_path / f"{host}.json"), str(tmp_path / "state"), host).close()
    again = RingMatchmaker(str(tmp_path / "nowhere"), str(tmp_path / "state"), "n1")
    assert again.hosts("compute") == ("n1",)
