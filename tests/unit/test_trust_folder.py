"""The folder of public keys is followed: changes count, what is broken changes nothing, and what stays is not read again."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from zmq.utils import z85

from openstack_zeromq.errors import KeyFileError
from openstack_zeromq.receiver.trust_watch import LOOK_EVERY, TrustWatch
from openstack_zeromq.security import keys, trust, trust_folder
from openstack_zeromq.security.trust_folder import TrustFolder

MINE, YOURS, OTHER = keys.new(), keys.new(), keys.new()
MANY = 13_000


def write(folder: Path, host: str, key: str) -> None:
    """As the rollout does: renamed into its place."""
    keys.write_public(folder / f"{host}.pub", (key,), host)


def fill(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"h{number}.pub").write_text(z85.encode(os.urandom(32)).decode() + "\n")


def looked(folder: TrustFolder, everything: bool = True) -> bool:
    """Look and take; whether trust changed."""
    folder.look(time.monotonic(), everything)
    return folder.take()


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, one entry for each time."""
    names: list[str] = []
    read = keys.read_public

    def counting(path: Path) -> tuple[str, ...]:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(keys, "read_public", counting)
    return names


def test_the_folder_is_followed_and_a_broken_file_changes_nothing_for_its_host(tmp_path: Path) -> None:
    write(tmp_path, "n1", MINE.public)
    write(tmp_path, "n2", YOURS.public)
    folder = TrustFolder(tmp_path)
    assert not looked(folder)
    (tmp_path / "n1.pub").write_text("half a ke")
    assert not looked(folder)
    assert "n1.pub is no key file" in folder.problem
    assert folder.trust.host_of(MINE.public) == "n1"
    (tmp_path / "n2.pub").unlink()
    assert looked(folder), "who is taken out is out, whatever else is broken"
    assert folder.trust.host_of(YOURS.public) is None
    assert folder.trust.host_of(MINE.public) == "n1"
    write(tmp_path, "n3", OTHER.public)
    assert looked(folder)
    write(tmp_path, "n1", MINE.public)
    looked(folder)
    assert folder.problem == ""
    assert set(folder.trust.hosts) == {"n1", "n3"}


def test_what_was_read_counts_once_it_is_taken(tmp_path: Path) -> None:
    write(tmp_path, "n1", MINE.public)
    folder = TrustFolder(tmp_path)
    write(tmp_path, "n2", YOURS.public)
    assert folder.look(0.0)
    assert folder.trust.host_of(YOURS.public) is None
    assert folder.take()
    assert folder.trust.host_of(YOURS.public) == "n2"
    assert not folder.look(0.0, everything=True)
    assert not folder.take()


def test_only_what_changed_is_read(tmp_path: Path, read_files: list[str]) -> None:
    fill(tmp_path, 20)
    folder = TrustFolder(tmp_path)
    read_files.clear()
    for _ in range(3):
        assert not looked(folder)
    assert read_files == []
    write(tmp_path, "n1", MINE.public)
    assert looked(folder, everything=False), "the folder's own stamp says so"
    (tmp_path / "h3.pub").unlink()
    assert looked(folder, everything=False)
    write(tmp_path, "h4", YOURS.public)
    assert looked(folder, everything=False)
    assert read_files == ["n1.pub", "h4.pub"]
    assert folder.trust.keys_of("h4") == (YOURS.public,)


def test_a_broken_file_is_read_once_and_stays_a_problem_until_it_is_whole(tmp_path: Path, read_files: list[str]) -> None:
    write(tmp_path, "n1", MINE.public)
    folder = TrustFolder(tmp_path)
    read_files.clear()
    (tmp_path / "n2.pub").write_text("half a ke")
    for _ in range(5):
        looked(folder)
        assert "n2.pub is no key file" in folder.problem
    assert read_files == ["n2.pub"]
    (tmp_path / "n2.pub").write_text(YOURS.public)
    assert looked(folder, everything=False), "a file that is being written is looked at every time"
    assert (folder.problem, folder.trust.host_of(YOURS.public)) == ("", "n2")


def test_a_file_that_is_written_in_its_place_or_may_be_read_at_last_counts(tmp_path: Path, read_files: list[str]) -> None:
    fill(tmp_path, 3)
    folder = TrustFolder(tmp_path)
    looked(folder)
    looked(folder)
    (tmp_path / "h1.pub").write_text(MINE.public)
    later = time.monotonic() + 100
    assert folder.look(later)
    assert folder.take()
    assert folder.trust.host_of(MINE.public) == "h1"
    read_files.clear()
    (tmp_path / "h1.pub").chmod(0o600)
    folder.look(later + 100)
    assert read_files == ["h1.pub"]


def test_a_key_stays_with_who_had_it_before_and_moves_when_that_is_gone(tmp_path: Path) -> None:
    write(tmp_path, "n2", YOURS.public)
    folder = TrustFolder(tmp_path)
    write(tmp_path, "n1", YOURS.public)
    looked(folder)
    assert folder.trust.host_of(YOURS.public) == "n2"
    assert folder.problem == "n1.pub has the key of n2, too; for these hosts trust stays as it was"
    (tmp_path / "n2.pub").unlink()
    assert looked(folder)
    assert folder.trust.host_of(YOURS.public) == "n1"


def test_a_folder_that_vanishes_changes_nothing_and_is_shown(tmp_path: Path) -> None:
    place = tmp_path / "authorized"
    write(place, "n1", MINE.public)
    folder = TrustFolder(place)
    place.rename(tmp_path / "elsewhere")
    assert not looked(folder, everything=False)
    assert "No such file or directory" in folder.problem
    assert folder.trust.host_of(MINE.public) == "n1"
    (tmp_path / "elsewhere").rename(place)
    assert not looked(folder, everything=False)
    assert folder.problem == ""


def test_a_folder_with_more_files_than_a_fabric_has_nodes_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_folder, "MOST_FILES", 3)
    fill(tmp_path, 3)
    folder = TrustFolder(tmp_path)
    write(tmp_path, "n1", MINE.public)
    assert not looked(folder)
    assert "holds 4 keys, more than any fabric has nodes (3); until it can be read" in folder.problem
    with pytest.raises(KeyFileError, match="holds 4 keys"):
        trust_folder.read(tmp_path)


def test_the_problems_of_many_files_fit_into_a_line(tmp_path: Path) -> None:
    write(tmp_path, "n1", MINE.public)
    folder = TrustFolder(tmp_path)
    for number in range(500):
        (tmp_path / f"h{number}.pub").write_text("no key")
    looked(folder)
    assert "; and 490 more; for these hosts trust stays as it was" in folder.problem


def test_files_that_are_written_halfway_are_not_seen(tmp_path: Path) -> None:
    write(tmp_path, "n1", MINE.public)
    (tmp_path / f".n2.pub.{os.getpid()}").write_text("half")
    assert set(trust_folder.read(tmp_path).hosts) == {"n1"}


def test_a_folder_of_a_large_fabric_costs_little(tmp_path: Path) -> None:
    """Processor time, which a busy machine does not stretch. Before: 2.6 s for each look, twice a second, in the loop."""
    fill(tmp_path, MANY)
    folder = TrustFolder(tmp_path)

    def spent(work: Callable[[], object]) -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    (tmp_path / "broken.pub").write_text("half a ke")
    looked(folder)
    looked(folder)
    now = time.monotonic()
    looks = [spent(lambda at=at: folder.look(now + at * LOOK_EVERY)) for at in range(240)]
    assert sum(looks) <= 0.005 * 240 * LOOK_EVERY, "idle: at most half a percent of a core, over a minute"
    write(tmp_path, "n1", MINE.public)
    assert spent(lambda: folder.look(now)) <= 0.5
    assert spent(folder.take) <= 0.05
    assert folder.trust.host_of(MINE.public) == "n1"


def test_a_revoked_key_is_refused_though_a_file_holds_it_until_it_is_taken_off_the_list(tmp_path: Path) -> None:
    """Before: it came back with the next run of the rollout."""
    place = tmp_path / "authorized"
    write(place, "n1", MINE.public)
    keys.write_public(place / "n2.pub", (YOURS.public, OTHER.public), "n2")
    folder = TrustFolder(place)
    trust.write_revoked(place, {"n2": (YOURS.public,)})
    assert looked(folder, everything=False), "within a quarter of a second, as any other change"
    assert folder.trust.host_of(YOURS.public) is None
    assert folder.trust.keys_of("n2") == (OTHER.public,)
    write(place, "n2", YOURS.public)
    looked(folder)
    assert folder.trust.keys_of("n2") == ()
    assert set(TrustFolder(place).trust.hosts) == set(trust_folder.read(place).hosts) == {"n1"}
    trust.revoked_path(place).write_text("n2 no key")
    assert not looked(folder, everything=False)
    assert "revoked: line 1 is not NODE KEY" in folder.problem
    with pytest.raises(KeyFileError, match="line 1 is not NODE KEY"):
        TrustFolder(place)
    trust.revoked_path(place).unlink()
    assert looked(folder, everything=False)
    assert folder.trust.host_of(YOURS.public) == "n2"


def test_revoked_keys_are_remembered_and_never_planned_until_their_node_is_readmitted() -> None:
    before = {host: keys.public_text((pair.public,), host) for host, pair in {"n1": MINE, "n2": YOURS}.items()}
    revoked = trust.with_revoked({}, before, {}, ["n2"], [])
    assert revoked == {"n2": (YOURS.public,)}
    wanted = {"n1": [MINE.public], "n2": [YOURS.public]}
    assert set(trust.planned(before, wanted, ["n1", "n2"], trust.all_keys(revoked))) == {"n1"}
    fresh = {"n1": [MINE.public], "n2": [OTHER.public]}
    assert set(trust.planned(before, fresh, ["n1", "n2"], trust.all_keys(revoked))) == {"n1", "n2"}, "a new key is another matter"
    assert trust.with_revoked({}, {}, revoked, [], []) == revoked, "a new node learns it from the others"
    assert trust.with_revoked(revoked, before, {}, [], ["n2"]) == {}
    both = {"n2": keys.public_text((YOURS.public, OTHER.public), "n2")}
    kept = trust.planned(both, {}, ["n2"], trust.all_keys(revoked))
    assert trust.keys_in(kept["n2"]) == (OTHER.public,), "the same for keys that are kept"
    assert trust.with_revoked({}, {"n4": ""}, {"n3": []}, ["n4"], []) == {}, "a host without keys is no entry"


# the thread


def eventually(check: Callable[[], object], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)


def test_a_request_is_done_once_a_look_that_began_later_is(tmp_path: Path) -> None:
    write(tmp_path, "n1", MINE.public)
    folder, woken = TrustFolder(tmp_path), []
    watch = TrustWatch(folder)
    watch.start(lambda: woken.append(time.monotonic()))
    try:
        (tmp_path / "n1.pub").write_text(YOURS.public)
        request = watch.request()
        eventually(lambda: watch.has_done(request))
        assert not watch.has_done(request + 1)
        eventually(lambda: woken)
        assert folder.take()
        assert folder.trust.host_of(YOURS.public) == "n1"
    finally:
        watch.close()


def test_a_fault_in_the_thread_is_shown_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "n1", MINE.public)
    folder = TrustFolder(tmp_path)
    watch = TrustWatch(folder)
    look = folder.look

    def broken(_now: float, _everything: bool = False) -> bool:
        raise ZeroDivisionError("for a test")

    monkeypatch.setattr(folder, "look", broken)
    watch.start(lambda: None)
    try:
        eventually(lambda: "ZeroDivisionError" in watch.problem(time.monotonic()))
        monkeypatch.setattr(folder, "look", look)
        eventually(lambda: not watch.problem(time.monotonic()))
        write(tmp_path, "n2", YOURS.public)
        eventually(folder.take)
    finally:
        watch.close()


def test_a_file_system_that_does_not_answer_is_shown(tmp_path: Path) -> None:
    write(tmp_path, "n1", MINE.public)
    watch = TrustWatch(TrustFolder(tmp_path))
    now = time.monotonic()
    assert not watch.problem(now + 1)
    assert "was last read 30 s ago: its file system does not answer" in watch.problem(now + 30)
    watch.close()
