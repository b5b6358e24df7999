"""Every ring that we write is one that a reader of Icehouse can live with, and in which it finds no lie."""

import json

import pytest
from catalog_views import VIEWS
from hypothesis import given
from icehouse import CannotLiveWithError, Reader

from openstack_zeromq.catalog import shape
from openstack_zeromq.matchmaker.base import Member, Members


def _read(topics: dict[str, Members]) -> Reader:
    published, _ = shape.shape(topics)
    ring, _ = shape.render(published)
    return Reader(ring)


@given(VIEWS)
def test_every_ring_we_write_can_be_read(topics: dict[str, Members]) -> None:
    _read(topics)


@given(VIEWS)
def test_round_robin_visits_every_host_of_a_topic_and_a_fanout_reaches_all(topics: dict[str, Members]) -> None:
    reader = _read(topics)
    for topic, members in topics.items():
        hosts = sorted(host for host in members if shape.is_host(host))
        assert reader.hosts(f"fanout~{topic}") == hosts
        if "." not in topic and not topic.startswith("fanout~"):
            assert [reader.hosts(topic) for _ in hosts] == [[host] for host in hosts]


@given(VIEWS)
def test_a_key_with_a_colon_is_found_and_leads_to_hosts_of_that_server(topics: dict[str, Members]) -> None:
    reader = _read(topics)
    for key, hosts in reader.ring.items():
        topic, colon, server = key.partition(":")
        if colon and not topic.startswith("fanout~"):
            assert reader.hosts(key)[0] in hosts, "the reader looks into the ring for it"
            assert all(server in topics[topic][host].servers for host in hosts)


def test_a_server_with_a_dot_in_its_name_gets_no_key_for_the_reader_would_not_look_at_it() -> None:
    topics: dict[str, Members] = {"cinder-volume": {"v1": Member(servers=("v1.example.com", "v1@lvm"))}}
    reader = _read(topics)
    assert sorted(reader.ring) == ["cinder-volume", "cinder-volume:v1@lvm"]
    assert reader.hosts("cinder-volume:v1.example.com") == ["example.com"], "whatever is in the ring"
    published, _ = shape.shape(topics)
    assert published.servers == {"cinder-volume": {"v1.example.com": ("v1",)}}


@pytest.mark.parametrize("ring", [[], {"a": []}, {"a": "b"}, {"a": [1]}, {"a": ["x y"]}])
def test_the_rules_would_notice_a_ring_that_breaks_them(ring: object) -> None:
    with pytest.raises(CannotLiveWithError):
        Reader(json.dumps(ring).encode())
