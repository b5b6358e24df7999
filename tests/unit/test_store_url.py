"""A store in a URL means what the same options mean."""

import re
from pathlib import Path

import pytest
from oslo_config import cfg

from openstack_zeromq import options
from openstack_zeromq.errors import ConfigError


def read(tmp_path: Path, url: str, *lines: str) -> options.Settings:
    file = tmp_path / "zeromq.conf"
    file.write_text("\n".join(["[DEFAULT]", f"transport_url = {url}", *lines, ""]))
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    conf(["--config-file", str(file)])
    return options.settings(conf)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("zmq+redis://r1", ("r1", 6379, 0, "", "")),
        ("zmq+redis://r1:6380/3", ("r1", 6380, 3, "", "")),
        ("zmq+redis://:p%40ss@r1:6380/", ("r1", 6380, 0, "", "p@ss")),
        ("zmq+redis://me:secret@[2001:db8::1]:6380", ("2001:db8::1", 6380, 0, "me", "secret")),
    ],
)
def test_redis(tmp_path: Path, url: str, place: tuple[object, ...]) -> None:
    settings = read(tmp_path, url)
    redis = settings.redis
    assert settings.matchmaker == "redis"
    assert (redis.host, redis.port, redis.db, redis.username, redis.password) == place
    assert "secret" not in repr(settings)


def test_sentinel(tmp_path: Path) -> None:
    settings = read(tmp_path, "zmq+sentinel://:secret@s1,s2:26380,[::1]:26381/cloud")
    assert settings.matchmaker == "sentinel"
    assert settings.redis.sentinels == (("s1", 26379), ("s2", 26380), ("::1", 26381))
    assert (settings.redis.group, settings.redis.password) == ("cloud", "secret")


def test_each_sentinel_may_say_who_we_are_and_a_group_may_have_an_at_sign(tmp_path: Path) -> None:
    settings = read(tmp_path, "zmq+sentinel://me:a%2Cb@s1,me:a%2Cb@s2/cloud%40one")
    assert (settings.redis.sentinels, settings.redis.group) == ((("s1", 26379), ("s2", 26379)), "cloud@one")
    assert (settings.redis.username, settings.redis.password) == ("me", "a,b")


def test_consul(tmp_path: Path) -> None:
    settings = read(tmp_path, "zmq+consul://to%2Fken@c1:8501", "[matchmaker_consul]", "mode = kv", "token = other")
    assert (settings.matchmaker, settings.consul.mode) == ("consul", "kv")
    assert (settings.consul.host, settings.consul.port, settings.consul.token) == ("c1", 8501, "to/ken")


@pytest.mark.parametrize("url", ["zmq://", "rabbit://u:p@h", ""])
def test_a_url_without_a_store_changes_nothing(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, url).matchmaker == "ring"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("zmq+oracle://h", "no such matchmaker"),
        ("zmq+redis://", "names no host"),
        ("zmq+redis://h:port", "write zmq+redis://host:port"),
        ("zmq+redis://:very-secret@h:99999999", "write zmq+redis://host:port"),
        ("zmq+redis://:very-secret/1@h", "percent-encoded"),
        ("zmq+redis://u:12/very-secret@h/0", "percent-encoded"),
        ("zmq+redis://u:12?very-secret@h/0", "percent-encoded"),
        ("zmq+redis://u:12#very-secret@h/0", "percent-encoded"),
        ("zmq+sentinel://u:12/very-secret@h/group", "percent-encoded"),
        ("zmq+sentinel://u:12,very-secret@h/group", "percent-encoded"),
        ("zmq+consul://very-secret/ken@h", "percent-encoded"),
        ("zmq+redis://h/name", "no number"),
        ("zmq+sentinel://h,,i/group", "names no host"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_without_its_secret(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        read(tmp_path, url)
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["rpc_zmq_matchmaker = sentinel"], "sentinel_hosts"),
        (["rpc_zmq_matchmaker = sentinel", "[matchmaker_redis]", "sentinel_hosts = h:x"], "host:port"),
        (["rpc_zmq_matchmaker = redis", "zmq_target_update = 50"], "zmq_target_expire"),
        (
            [
                "rpc_zmq_matchmaker = consul",
                "zmq_target_expire = 19",
                "zmq_target_update = 5",
                "[matchmaker_consul]",
                "mode = kv",
            ],
            "20 or more",
        ),
        (["zmq_address = 10.0.0.1  # this node"], "nothing else on the line"),
        (["zmq_fabric = a/b"], "zmq_fabric"),
        (["zmq_state_dir = state"], "absolute"),
        (["rpc_zmq_matchmaker = redis", "[matchmaker_redis]", "ssl = true", "ca_file = /nowhere"], "ca_file"),
    ],
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, "zmq://", "[oslo_messaging_zmq]", *lines)


def test_old_options_of_the_default_group_count(tmp_path: Path) -> None:
    settings = read(tmp_path, "zmq://", "zmq_target_expire = 300", "zmq_target_update = 180")
    assert (settings.target_expire, settings.target_update) == (300, 180)
