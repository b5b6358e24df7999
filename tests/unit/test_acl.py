"""zmq_channel_acl: the first rule that fits decides; root always may; what is no rule is refused."""

import os
import pwd

import pytest

from openstack_zeromq.address import compact
from openstack_zeromq.errors import ConfigError
from openstack_zeromq.security.acl import REMEMBERED, Acl, Verb, Who, look_up_user, parse, refused

RULES = parse(["consume nova/* nova", "send nova/compute* nova @operators", "any secret/* 4711", "any closed/*"])
NOVA = Who("nova", frozenset({"nova", "64060"}), frozenset({"nova", "openstack"}))
ANNA = Who("anna", frozenset({"anna", "1000"}), frozenset({"anna", "operators"}))
ROOT = Who("root", frozenset({"root", "0"}), frozenset({"root"}))
NUMBER = Who("4711", frozenset({"4711"}), frozenset())


@pytest.mark.parametrize(
    ("verb", "name", "who", "may"),
    [
        (Verb.CONSUME, "nova/conductor", NOVA, True),
        (Verb.CONSUME, "nova/conductor", ANNA, False),
        (Verb.SEND, "nova/compute.c1", ANNA, True),
        (Verb.SEND, "nova/conductor", ANNA, True),  # no rule is about it
        (Verb.SEND, "secret/x", NOVA, False),
        (Verb.CONSUME, "secret/x", NUMBER, True),
        (Verb.SEND, "closed/x", NOVA, False),
        (Verb.SEND, "closed/x", ROOT, True),
        (Verb.SEND, "novax/compute", ANNA, True),
    ],
)
def test_the_first_rule_that_fits_decides(verb: Verb, name: str, who: Who, may: bool) -> None:
    assert (refused(RULES, verb, name, who) == "") == may


def test_a_refusal_names_user_topic_and_who_may() -> None:
    assert refused(RULES, Verb.CONSUME, "nova/conductor", ANNA) == (
        "user anna may not consume from nova/conductor: zmq_channel_acl lets only nova"
    )
    assert refused(RULES, Verb.SEND, "closed/x", NOVA).endswith("lets only nobody")


@pytest.mark.parametrize("text", ["", "consume", "watch nova/* nova", "send nova nova", "send nova/a/b nova", "send nova/* @"])
def test_what_is_no_rule_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match="is no rule; a rule is"):
        parse([text])


def test_a_long_topic_is_named_in_full_or_by_an_early_star() -> None:
    topic = "cinder-volume.storage-node-01.example.com@ceph-ssd-pool"
    name = f"cinder/{compact(topic)}"
    assert name != f"cinder/{topic}"
    assert refused(parse([f"consume cinder/{topic} cinder"]), Verb.CONSUME, name, ANNA)
    assert refused(parse(["consume cinder/cinder-volume.* cinder"]), Verb.CONSUME, name, ANNA)
    with pytest.raises(ConfigError, match="must come within 22 characters"):
        parse(["consume cinder/cinder-volume.storage-node-01.example.com@* cinder"])


def test_a_user_is_known_by_name_number_and_groups() -> None:
    me = look_up_user(os.getuid(), os.getgid())
    assert {pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())} <= me.users
    assert str(os.getgid()) in me.groups
    assert look_up_user(4_000_000, 4_000_001) == Who("4000000", frozenset({"4000000"}), frozenset({"4000001"}))


def test_who_is_in_which_group_is_asked_again_after_a_while() -> None:
    asked = []

    def look_up(uid: int, _gid: int) -> Who:
        asked.append(uid)
        return NOVA if len(asked) > 1 else ANNA

    acl = Acl(RULES, look_up)
    for now in (0.0, REMEMBERED - 1):
        assert acl.refused(Verb.CONSUME, "nova/conductor", (64060, 64060), now)
    assert not acl.refused(Verb.CONSUME, "nova/conductor", (64060, 64060), REMEMBERED)
    assert asked == [64060, 64060]
