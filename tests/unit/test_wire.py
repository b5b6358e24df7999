"""Frames: what goes in comes out, and nothing else gets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import header

from openstack_zeromq import wire
from openstack_zeromq.address import compact
from openstack_zeromq.errors import MalformedError
from openstack_zeromq.wire import Answer, AnswerEntry, Flag, Header, Kind, MessageId, Stamp

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
NAMES = st.text().map(compact)
HEADERS = st.builds(
    lambda sequence, unsettled, **facts: Header(
        id=MessageId(facts.pop("origin"), sequence), settled=sequence - unsettled, **facts
    ),
    sequence=st.integers(1, 2**64 - 1),
    unsettled=U32,
    origin=U64,
    kind=st.sampled_from([Kind.CALL, Kind.CAST, Kind.FANOUT, Kind.NOTIFY, Kind.REPLY]),
    flags=st.integers(0, 15),
    source=NAMES,
    incarnation=U64,
    ttl_ms=U32,
    turn=U32,
    client=U64,
    subject=st.builds(MessageId, U64, st.integers(1, 2**64 - 1)),
    exchange=NAMES,
    topic=NAMES,
    server=NAMES,
    round=st.integers(0, 15),
    addressed_to=U32,
)


@given(HEADERS)
def test_a_header_comes_out_as_it_went_in_and_never_has_more_than_256_bytes(given_header: Header) -> None:
    frame = wire.encode(given_header)
    assert len(frame) <= wire.MAX_HEADER
    assert wire.decode(frame) == given_header


@given(HEADERS, st.data())
def test_a_header_that_is_cut_anywhere_is_refused(given_header: Header, data: st.DataObject) -> None:
    frame = wire.encode(given_header)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(MalformedError):
        wire.decode(frame[:cut])


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_and_nothing_worse(data: bytes) -> None:
    for read in (wire.decode, wire.kind_of):
        with pytest.raises(MalformedError):
            read(data)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_behind_a_true_beginning_are_read_or_refused_and_nothing_worse(data: bytes) -> None:
    reasons = []
    for kind, read in ((Kind.CAST, wire.decode), (Kind.ANSWERS, wire.decode_answers), (Kind.PING, wire.decode_control)):
        try:
            read(bytes([*wire.MAGIC, wire.MAJOR, wire.MINOR, kind, 0]) + data)
        except MalformedError as exc:
            reasons.append(exc.reason)
    assert all(reason.isalpha() for reason in reasons)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: b"HT" + frame[2:], "garbage"),
        (lambda frame: frame[:2] + b"\x02" + frame[3:], "version"),
        (lambda frame: frame[:4] + b"\x09" + frame[5:], "kind"),
        (lambda frame: frame[:4] + bytes([Kind.PING]) + frame[5:], "kind"),
        (lambda frame: frame + b"x" * 300, "oversized"),
        (lambda frame: frame + b"x", "oversized"),
        (lambda frame: frame[:-1] + b"\xff", "text"),
    ],
)
def test_a_wrong_header_is_refused_with_a_word_that_can_be_counted(change: object, reason: str) -> None:
    with pytest.raises(MalformedError) as caught:
        wire.decode(change(wire.encode(header(server="s"))))  # type: ignore[operator]
    assert caught.value.reason == reason


def test_what_a_newer_minor_version_appends_is_ignored() -> None:
    frame = wire.encode(header())
    newer = frame[:3] + bytes([wire.MINOR + 1]) + frame[4:] + b"something new"
    assert wire.decode(newer) == header()


def test_a_stamp_changes_what_belongs_to_the_hop_and_nothing_else() -> None:
    before = header(flags=Flag.MANDATORY, topic="ü" * 20)
    after = wire.decode(wire.restamp(wire.encode(before), Stamp(77, 2**40 + 5, 1234, resent=True, round=9)))
    assert after == before._replace(incarnation=77, addressed_to=5, ttl_ms=1234, flags=Flag.MANDATORY | Flag.RESENT, round=9)
    assert wire.is_for(after.addressed_to, 2**40 + 5)
    assert not wire.is_for(after.addressed_to, 6)
    assert wire.is_for(0, 6)


@given(
    st.lists(
        st.builds(AnswerEntry, st.builds(MessageId, U64, U64), st.sampled_from(Answer), st.text(max_size=60), st.integers(0, 15))
    )
)
def test_answers_come_out_as_they_went_in(entries: list[AnswerEntry]) -> None:
    assert wire.decode_answers(wire.encode_answers(entries)) == entries


def test_control_frames_carry_an_object_and_nothing_else() -> None:
    assert wire.decode_control(wire.encode_control(Kind.PING, node="a", incarnation=2**63)) == {"node": "a", "incarnation": 2**63}
    for body in (b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"1" * wire.MAX_CONTROL + b"}"):
        with pytest.raises(MalformedError):
            wire.decode_control(wire.encode_control(Kind.PING)[:6] + body)


ITEMS = st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=4), min_size=1, max_size=5)


@given(ITEMS)
def test_a_bundle_comes_out_as_it_went_in(items: list[list[bytes]]) -> None:
    assert list(wire.unbundle([wire.bundle(items)])) == items


@given(ITEMS, st.data())
def test_a_bundle_that_is_cut_anywhere_is_refused_or_ends_between_two_items(
    items: list[list[bytes]], data: st.DataObject
) -> None:
    frame = wire.bundle(items)
    cut = data.draw(st.integers(6, len(frame) - 1))
    try:
        read = list(wire.unbundle([frame[:cut]]))
    except MalformedError:
        return
    assert read == items[: len(read)]
    assert 0 < len(read) < len(items)


def test_what_is_no_bundle_passes_as_it_is() -> None:
    for frames in ([b""], [b"x"], [wire.encode(header()), b"body"], [wire.bundle([[b"x"]]), b"more"]):
        assert list(wire.unbundle(frames)) == [frames]


def test_small_items_travel_together_large_ones_alone_and_all_in_order() -> None:
    large = [b"header", b"x" * (wire.LARGE + 1)]
    items = [[b"a"], [b"b", b"1"], large, [b"c"]]
    ways = list(wire.together(items))
    assert [item for way in ways for item in wire.unbundle([*way])] == items
    assert ways[1] == large
    assert ways[2] == [b"c"]
    assert len(ways) == 3


@given(st.lists(st.builds(MessageId, U64, U64)))
def test_ids_come_out_as_they_went_in(ids: list[MessageId]) -> None:
    assert wire.decode_ids(wire.encode_ids(ids)) == ids
    with pytest.raises(MalformedError):
        wire.decode_ids(wire.encode_ids(ids) + b"x")
