"""Settings for whoever has no command line: files, values that win over them, and URLs of stores."""

from pathlib import Path

import pytest

from openstack_zeromq.errors import ConfigError
from openstack_zeromq.options import CONSUL_GROUP, GROUP, REDIS_GROUP, consul_at, given, redis_at


def _file(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_last_file_wins_and_a_value_wins_over_all(tmp_path: Path) -> None:
    one = _file(tmp_path / "one.conf", f"[{GROUP}]", "rpc_zmq_host = a", "rpc_zmq_port = 1")
    two = _file(tmp_path / "two.conf", f"[{GROUP}]", "rpc_zmq_host = b")
    read = given([one, two], {GROUP: {"rpc_zmq_port": 2, "zmq_fabric": None}})
    assert (read.host, read.port, read.fabric) == ("b", 2, "openstack")


def test_what_cannot_be_is_named_and_a_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rpc_zmq_port"):
        given(values={GROUP: {"rpc_zmq_port": 70_000}})
    with pytest.raises(ConfigError, match=r"none\.conf"):
        given([str(tmp_path / "none.conf")])
    with pytest.raises(ConfigError) as refused:
        given([_file(tmp_path / "bad.conf", "no section at all, secret")])
    assert "bad.conf" in str(refused.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1:8500", {"scheme": "http", "host": "127.0.0.1", "port": 8500}),
        ("https://consul.example.com/", {"scheme": "https", "host": "consul.example.com", "port": 8501}),
        ("http://[::1]", {"scheme": "http", "host": "::1", "port": 8500}),
    ],
)
def test_url_of_consul_becomes_options(url: str, options: dict[str, object]) -> None:
    assert consul_at(url) == options
    assert given(values={CONSUL_GROUP: options, GROUP: {"rpc_zmq_matchmaker": "consul"}}).consul.host == options["host"]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8500", "ftp://x", "http://", "http://x:http", "http://token@x", "http://x/v1"])
def test_url_that_is_none_of_consul_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="write http://host:port"):
        consul_at(url)


class TestRedisAt:
    def test_plain_options_win_over_a_url_in_a_file(self, tmp_path: Path) -> None:
        file = _file(tmp_path / "zeromq.conf", "[DEFAULT]", "transport_url = zmq+consul://x", f"[{REDIS_GROUP}]", "db = 2")
        read = redis_at({"host": "192.0.2.1", "port": 1, "config_files": [file], "fabric": "f"})
        assert (read.matchmaker, read.redis.host, read.redis.port, read.redis.db, read.fabric) == (
            "redis",
            "192.0.2.1",
            1,
            2,
            "f",
        )

    def test_sentinels_are_named_or_in_a_url(self) -> None:
        read = redis_at({"sentinel_hosts": ["s1", "s2:1"], "config_files": []})
        assert (read.matchmaker, read.redis.sentinels) == ("sentinel", (("s1", 26379), ("s2", 1)))
        read = redis_at({"url": "zmq+sentinel://s1:1/g", "config_files": []})
        assert (read.matchmaker, read.redis.sentinels, read.redis.group) == ("sentinel", (("s1", 1),), "g")

    def test_files_of_a_node_are_enough_if_they_name_redis(self, tmp_path: Path) -> None:
        redis = _file(tmp_path / "redis.conf", f"[{GROUP}]", "rpc_zmq_matchmaker = redis", f"[{REDIS_GROUP}]", "host = 192.0.2.1")
        assert redis_at({"config_files": [redis]}).redis.host == "192.0.2.1"
        ring = _file(tmp_path / "ring.conf", f"[{GROUP}]", "rpc_zmq_matchmaker = ring")
        with pytest.raises(ConfigError, match="the matchmaker is ring, not Redis; give url="):
            redis_at({"config_files": [ring]})
