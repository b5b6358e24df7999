"""Security without sockets: key files, whom they make trusted, what the gate says, how a key is changed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from openstack_zeromq import sockets
from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.security import keys, trust
from openstack_zeromq.security.gate import judge
from openstack_zeromq.security.own import OwnKey, State, Step, There, plan
from openstack_zeromq.security.trust import Trust

MINE, YOURS, OTHER = (keys.new() for _ in range(3))
TRUST = Trust({"n1": (MINE.public,), "n2": (YOURS.public,)})


def question(**facts: bytes) -> list[bytes]:
    """What libzmq asks of a connection with n2's key."""
    asked = {
        "version": b"1.0",
        "request": b"7",
        "domain": sockets.LINKS_DOMAIN,
        "address": b"192.0.2.2",
        "routing": b"x",
        "mechanism": b"CURVE",
        "credentials": z85.decode(YOURS.public.encode()),
    }
    return list({**asked, **facts}.values())


# files


def test_a_secret_key_is_written_for_its_owner_alone_and_comes_back_with_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "zeromq" / "node.key"
    keys.write_secret(path, MINE, "n1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.read_secret(path) == MINE
    assert [file.name for file in path.parent.iterdir()] == ["node.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_secret_key_that_others_could_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    keys.write_secret(path, MINE, "n1")
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}, and make a new key"):
        keys.read_secret(path)


NO_KEY_FILES = {
    "empty": "",
    "comment": "# only a comment\n",
    "short": "abc\n",
    "two keys": f"{MINE.secret}\n{YOURS.secret}\n",
    "no text": "\xff" * 40,
    "long": "x" * 50_000,
}


@pytest.mark.parametrize("text", NO_KEY_FILES.values(), ids=NO_KEY_FILES)
def test_what_is_no_key_file_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.key"
    path.touch(mode=0o600)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(KeyFileError) as raised:
        keys.read_secret(path)
    assert MINE.secret not in str(raised.value)
    assert "xxx" not in str(raised.value)


def test_a_key_that_systemd_hands_over_may_have_the_mode_of_its_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials" / "node.key"
    keys.write_secret(path, MINE, "n1")
    path.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    assert keys.read_secret(path) == MINE
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "others"))
    with pytest.raises(KeyFileError):
        keys.read_secret(path)


def test_a_secret_is_in_no_repr() -> None:
    assert MINE.secret not in repr(MINE)
    assert MINE.public in repr(MINE)


GOOD_DIGITS = "%nSc0" * 8


@pytest.mark.parametrize(
    "text", ["#" * 40, "%nSc1" + GOOD_DIGITS[5:], GOOD_DIGITS[5:] + "%nSc1", GOOD_DIGITS + "0", GOOD_DIGITS[1:], ""]
)
def test_what_no_32_bytes_give_is_no_key(tmp_path: Path, text: str) -> None:
    """Five digits to the base 85 can be more than 32 bits; libzmq ends a process that takes them for a key."""
    assert keys.is_key(GOOD_DIGITS)
    assert not keys.is_key(text)
    (tmp_path / "node.key").write_text(text)
    (tmp_path / "node.key").chmod(0o600)
    with pytest.raises(KeyFileError):
        keys.read_secret(tmp_path / "node.key")


@given(st.binary(min_size=32, max_size=32).map(lambda raw: z85.encode(raw).decode()))
def test_every_key_is_one(key: str) -> None:
    assert keys.is_key(key)
    assert trust.keys_in(keys.public_text((key,), "n1")) == (key,)


# trust


def test_a_host_with_two_keys_is_trusted_with_both() -> None:
    both = Trust({"n1": (MINE.public, OTHER.public)})
    assert both.host_of(MINE.public) == both.host_of(OTHER.public) == "n1"
    assert both.host_of(YOURS.public) is None
    assert both.keys_of("n2") == ()


def test_two_hosts_cannot_have_one_key() -> None:
    with pytest.raises(KeyFileError, match="n1 and n2 have a key in common"):
        Trust({"n1": (MINE.public,), "n2": (MINE.public,)})


def test_trust_has_the_same_digest_in_any_order() -> None:
    one = Trust({"n1": (MINE.public, OTHER.public), "n2": (YOURS.public,)})
    assert one.digest == Trust({"n2": (YOURS.public,), "n1": (OTHER.public, MINE.public)}).digest
    assert one.digest != Trust({"n1": (MINE.public,), "n2": (YOURS.public,)}).digest


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_everybody_may_read_public_keys_whatever_the_umask_says(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        keys.write_public(tmp_path / "authorized" / "n1.pub", (MINE.public,), "n1")
        keys.write_secret(tmp_path / "etc" / "zeromq" / "node.key", MINE, "n1")
    finally:
        os.umask(before)
    assert (tmp_path / "authorized").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "authorized" / "n1.pub").stat().st_mode & 0o777 == 0o644
    folders = (tmp_path / "etc", tmp_path / "etc" / "zeromq")
    assert [path.stat().st_mode & 0o777 for path in (*folders, folders[1] / "node.key")] == [0o755, 0o755, 0o600]


def test_hosts_of_which_nothing_is_said_keep_what_they_have_and_others_go() -> None:
    before = {host: keys.public_text((pair.public,), host) for host, pair in {"n1": MINE, "n2": YOURS, "gone": OTHER}.items()}
    fresh = keys.new().public
    after = trust.planned(before, {"n1": [fresh], "n3": []}, ["n1", "n2", "n3"])
    assert {host: trust.keys_in(text) for host, text in after.items()} == {"n1": (fresh,), "n2": (YOURS.public,)}


@pytest.mark.parametrize("wanted", [{"../n1": [MINE.public]}, {"n1": ["no key"]}, {"n1": [MINE.public], "n2": [MINE.public]}])
def test_what_cannot_be_trusted_is_refused_before_anything_is_written(wanted: dict[str, list[str]]) -> None:
    with pytest.raises(KeyFileError):
        trust.planned({}, wanted, [])


# the gate


def test_who_shows_a_trusted_key_comes_in_and_is_known_by_it() -> None:
    answer, verdict = judge(question(), TRUST)
    assert answer == [b"1.0", b"7", b"200", b"OK", YOURS.public.encode(), b""]
    assert verdict.admitted
    assert TRUST.host_of(verdict.key) == "n2"


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"credentials": z85.decode(OTHER.public.encode())}, "its key is not trusted"),
        ({"credentials": b"short"}, "it shows no key"),
        ({"mechanism": b"NULL", "credentials": b""}, "it shows no key"),
        ({"mechanism": b"PLAIN"}, "it shows no key"),
        ({"domain": b""}, "it shows no key"),
        ({"domain": b"*"}, "it shows no key"),
        ({"domain": sockets.LOCAL_DOMAIN}, "it shows no key"),
        ({"domain": sockets.LOCAL_DOMAIN, "mechanism": b"NULL"}, "it shows no key"),  # from the network
        ({"version": b"2.0"}, "it does not say who it is"),
    ],
)
def test_everybody_else_is_refused(facts: dict[str, bytes], why: str) -> None:
    answer, verdict = judge(question(**facts), TRUST)
    assert answer[2:5] == [b"400", why.encode(), b""]
    assert (verdict.admitted, verdict.why) == (False, why)


def test_a_service_of_this_node_needs_no_key() -> None:
    asked = question(domain=sockets.LOCAL_DOMAIN, mechanism=b"NULL", address=b"localhost:0:0:1")[:6]
    answer, verdict = judge(asked, TRUST)
    assert answer[2] == b"200"
    assert verdict == (True, "", "", "localhost:0:0:1")


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_no_question_breaks_the_gate_and_none_that_it_does_not_know_gets_in(asked: list[bytes]) -> None:
    answer, verdict = judge(asked, TRUST)
    assert len(answer) == 6
    assert not verdict.admitted


# one's own key


@pytest.mark.parametrize(
    ("state", "there", "steps"),
    [
        (State.PRESENT, There(), [Step.MAKE]),
        (State.PRESENT, There(key=True, next=True, before=True), []),
        (State.NEXT, There(), [Step.MAKE, Step.MAKE_NEXT]),
        (State.NEXT, There(key=True), [Step.MAKE_NEXT]),
        (State.NEXT, There(key=True, next=True), []),
        (State.SWITCHED, There(key=True, next=True), [Step.SWITCH]),
        (State.SWITCHED, There(key=True, before=True), []),
        (State.SWITCHED, There(), [Step.MAKE]),
        (State.SETTLED, There(key=True, before=True), [Step.FORGET]),
        (State.SETTLED, There(key=True, next=True), []),
        (State.ABSENT, There(key=True), [Step.REMOVE]),
        (State.ABSENT, There(before=True), [Step.REMOVE]),
        (State.ABSENT, There(), []),
    ],
)
def test_plan_of_ones_own_key(state: State, there: There, steps: list[Step]) -> None:
    assert plan(state, there) == steps


def test_a_key_is_changed_step_by_step_and_nobody_is_cut_off_between_them(tmp_path: Path) -> None:
    own = OwnKey(tmp_path / "node.key", "n1")
    seen = []
    for state in (State.PRESENT, State.NEXT, State.SWITCHED, State.SWITCHED, State.PRESENT, State.SETTLED, State.PRESENT):
        own.apply(own.plan(state))
        seen.append(own.public())
    old, new = seen[1]
    assert old != new
    assert seen == [[old], [old, new], [new, old], [new, old], [new, old], [new], [new]]
    own.apply(own.plan(State.ABSENT))
    assert list(tmp_path.iterdir()) == []


def test_a_change_that_died_half_way_is_no_second_key(tmp_path: Path) -> None:
    own = OwnKey(tmp_path / "node.key", "n1")
    own.apply(own.plan(State.NEXT))
    keys.write_secret(own.path, keys.read_secret(own.next), "n1")  # and then the machine went down
    assert len(own.public()) == 1
    own.apply(own.plan(State.SWITCHED))
    assert own.public() == [keys.read_secret(own.path).public]
