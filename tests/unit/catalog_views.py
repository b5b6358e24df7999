"""What stores may tell of topics, for hypothesis: mostly names as they are, some that are none."""

from hypothesis import strategies as st

from openstack_zeromq.catalog.shape import is_topic
from openstack_zeromq.matchmaker.base import Member

_ODD = st.text(max_size=6)
HOSTS = st.one_of(
    st.sampled_from(["c1", "c2", "c3", "v1", "n.example.com"]), st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True), _ODD
)
TOPICS = st.one_of(st.sampled_from(["compute", "compute_agent", "cinder-volume", "notes.info"]), _ODD.filter(is_topic))
SERVERS = st.one_of(st.sampled_from(["v1@lvm", "v1@lvm#pool", "v1.example.com", "a:b"]), _ODD)
PORTS = st.one_of(st.none(), st.integers(1, 65535))
MEMBERS = st.builds(
    Member,
    st.one_of(st.just(""), st.ip_addresses(v=4).map(str)),
    PORTS,
    st.sets(SERVERS, max_size=3).map(lambda servers: tuple(sorted(servers))),
)
VIEWS = st.dictionaries(TOPICS, st.dictionaries(HOSTS, MEMBERS, max_size=5), max_size=4)
