"""Filters about rings and URLs: a catalog becomes a ring, two rings a difference, parts a URL that is read back as they were."""

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st
from oslo_config import cfg
from oslo_messaging import TransportURL

from openstack_zeromq import options

from .conftest import CHECKOUT, load

rings = load(CHECKOUT / "filter_plugins" / "rings.py")
urls = load(CHECKOUT / "filter_plugins" / "transport_url.py")


def entry(service, node, status="passing", **meta):
    """As /v1/health/service has it."""
    return {
        "Node": {"Node": node, "Address": "192.0.2.1"},
        "Service": {"Service": service, "ID": service, "Address": "", "Port": 0, "Meta": meta},
        "Checks": [{"Status": status}],
    }


class TestCatalogRing:
    def test_healthy_instances_are_the_hosts_of_their_topics(self):
        answers = [
            [entry("nova-compute", "c2.example.com"), entry("nova-compute", "c1"), entry("nova-compute", "c3", "critical")],
            [entry("scheduler", "s1", "warning"), entry("scheduler", "s2", zmq_fabric="another")],
        ]
        assert rings.catalog_ring(answers, {"nova-compute": "compute"}) == {"compute": ["c1", "c2"], "scheduler": ["s1"]}
        assert rings.catalog_ring(answers[1], accept_warning=False) == {}
        assert rings.catalog_ring([]) == {}

    def test_prefix_tells_our_services_from_others(self):
        assert rings.catalog_ring([entry("zmq-compute", "c1"), entry("mysql", "db")], prefix="zmq-") == {"compute": ["c1"]}

    def test_two_services_make_one_topic(self):
        answers = [entry("a", "c1"), entry("b", "c2"), entry("b", "c1")]
        assert rings.catalog_ring(answers, {"a": "compute", "b": "compute"}) == {"compute": ["c1", "c2"]}

    def test_servers_that_an_old_reader_finds_have_a_key(self):
        assert rings.catalog_ring([entry("volume", "c1", zmq_servers="odd,c1")]) == {"volume": ["c1"], "volume:odd": ["c1"]}

    def test_result_of_the_module_is_taken_as_it_is(self):
        assert rings.catalog_ring({"changed": False, "ring": {"compute": ["c2", "c1"]}}) == {"compute": ["c1", "c2"]}

    @pytest.mark.parametrize("said", [{"topics": {}}, [{"ServiceName": "compute", "Node": "c1"}], ["c1"]])
    def test_what_says_nothing_of_health_is_refused(self, said):
        with pytest.raises(AnsibleFilterError, match=r"zeromq_catalog_ring: .*give it"):
            rings.catalog_ring(said)

    def test_an_instance_that_cannot_be_read_is_named(self):
        with pytest.raises(
            AnsibleFilterError, match=r"service compute: an instance is not understood.*correct it in the catalog"
        ):
            rings.catalog_ring([entry("compute", "c1", zmq_port="http")])


class TestRingDiff:
    def test_only_what_differs_is_told(self):
        old, new = {"a": ["x", "y"], "b": ["x"], "d": ["x"]}, {"a": ["y", "z"], "b": ["x"], "c": ["x"]}
        assert rings.ring_diff(old, new) == {
            "a": {"added": ["z"], "removed": ["x"]},
            "c": {"added": ["x"], "removed": []},
            "d": {"added": [], "removed": ["x"]},
        }
        assert rings.ring_diff(old, old) == {}

    def test_what_is_no_ring_is_refused(self):
        with pytest.raises(AnsibleFilterError, match="topic to list of hosts"):
            rings.ring_diff({"a": "x"}, {})


SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), max_size=12)
HOSTS = st.lists(
    st.tuples(st.sampled_from(["r1", "r2.example.com", "192.0.2.1", "2001:db8::1"]), st.integers(1, 65535)),
    min_size=1,
    max_size=3,
)


class TestTransportUrl:
    @given(HOSTS, SECRETS, SECRETS.filter(bool), st.sampled_from(["", "master", "a b/c?", "ünï"]))
    def test_oslo_messaging_reads_back_what_was_given(self, hosts, username, password, group):
        url = urls.transport_url(
            "sentinel",
            hosts=[{"host": host, "port": port} for host, port in hosts],
            username=username,
            password=password,
            group=group,
            query={"a": "1&2", "b": "ü"},
        )
        read = TransportURL.parse(cfg.ConfigOpts(), url)
        assert read.transport == "zmq+sentinel"
        assert [(host.hostname, host.port) for host in read.hosts] == hosts
        assert (read.hosts[0].username or "", read.hosts[0].password) == (username, password)
        assert (read.virtual_host or "") == group
        assert read.query == {"a": "1&2", "b": "ü"}

    @given(HOSTS, SECRETS, SECRETS.filter(bool))
    def test_a_receiver_reads_back_what_was_given(self, hosts, username, password):
        read = self.settings(
            urls.transport_url(
                {"store": "sentinel", "hosts": [{"host": host, "port": port} for host, port in hosts], "group": "m"},
                username=username,
                password=password,
            )
        )
        assert read.matchmaker == "sentinel"
        assert list(read.redis.sentinels) == hosts
        assert (read.redis.username, read.redis.password, read.redis.group) == (username, password, "m")

    def test_redis_and_consul_have_parts_of_their_own(self):
        url = urls.transport_url("redis", hosts="192.0.2.1", password="p@ss:/?#,", db=3)
        assert url == "zmq+redis://:p%40ss%3A%2F%3F%23%2C@192.0.2.1:6379/3"
        read = self.settings(url).redis
        assert (read.host, read.port, read.password, read.db) == ("192.0.2.1", 6379, "p@ss:/?#,", 3)
        url = urls.transport_url("consul", hosts=["::1"], token="to/ken")
        assert url == "zmq+consul://to%2Fken@[::1]:8500/"
        assert self.settings(url).consul.token == "to/ken"
        assert urls.transport_url("ring") == urls.transport_url({"store": "dummy"}) == "zmq://"

    @pytest.mark.parametrize(
        ("parts", "remedy"),
        [
            ({"store": "rabbit"}, "is none of ring, dummy, redis, sentinel, consul"),
            ({"store": "redis"}, "redis needs hosts"),
            ({"store": "redis", "hosts": ["a", "b"]}, "use sentinel for several"),
            ({"store": "redis", "hosts": ["a:6379"]}, "give its port as"),
            ({"store": "redis", "hosts": ["a@b"]}, "is no host"),
            ({"store": "redis", "hosts": ["a"], "port": "x"}, "must be a number from 1 to 65535"),
            ({"store": "redis", "hosts": ["a"], "passwort": "secret"}, "there is no part passwort"),
            ({"store": "redis", "hosts": ["a"], "query": "a=1"}, "must be a dict"),
        ],
    )
    def test_parts_that_make_no_url_are_refused_with_the_remedy(self, parts, remedy):
        with pytest.raises(AnsibleFilterError, match=remedy) as refused:
            urls.transport_url(parts)
        assert "secret" not in str(refused.value)

    def settings(self, url):
        conf = cfg.ConfigOpts()
        options.register(conf)
        options.register_store_url(conf)
        conf([], default_config_files=[], default_config_dirs=[])
        conf.set_override("transport_url", url)
        return options.settings(conf)
