"""Journal: what a service notes is there for others, whatever becomes of the service."""

import os
from pathlib import Path

import pytest

from openstack_zeromq import journal
from openstack_zeromq.journal import Journal
from openstack_zeromq.wire import MessageId


def test_what_was_begun_can_be_read_by_others_at_once(tmp_path: Path) -> None:
    file = journal.path(str(tmp_path), 5)
    journal.create(file)
    assert journal.begun(file) == []
    noted = [MessageId(7, sequence) for sequence in range(1, 4)]
    writer = Journal(file)
    for message_id in noted:
        writer.note(message_id)
    assert journal.begun(file) == noted


def test_a_journal_keeps_the_latest_and_does_not_grow(tmp_path: Path) -> None:
    file = journal.path(str(tmp_path), 5)
    journal.create(file)
    size = file.stat().st_size
    writer = Journal(file)
    for sequence in range(1, 3001):
        writer.note(MessageId(7, sequence))
    assert file.stat().st_size == size
    assert set(journal.begun(file)) >= {MessageId(7, sequence) for sequence in range(2500, 3001)}


def test_making_it_again_changes_nothing(tmp_path: Path) -> None:
    file = journal.path(str(tmp_path), 5)
    journal.create(file)
    Journal(file).note(MessageId(7, 1))
    journal.create(file)
    assert journal.begun(file) == [MessageId(7, 1)]


def test_a_service_notices_when_its_journal_is_another_file_by_now(tmp_path: Path) -> None:
    file = journal.path(str(tmp_path), 5)
    journal.create(file)
    writer = Journal(file)
    assert writer.read_by_others
    file.unlink()
    assert not writer.read_by_others
    journal.create(file)
    assert not writer.read_by_others
    assert Journal(file).read_by_others


def test_a_journal_is_open_to_the_group_of_its_directory_and_to_nobody_else(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        journal.create(journal.path(str(tmp_path), 5))
    finally:
        os.umask(mask)
    assert journal.path(str(tmp_path), 5).stat().st_mode & 0o777 == 0o660


def test_what_is_no_journal_is_refused_and_says_nothing(tmp_path: Path) -> None:
    file, link = journal.path(str(tmp_path), 5), journal.path(str(tmp_path), 6)
    with pytest.raises(OSError, match="service"):
        Journal(file)
    assert journal.begun(file) == []
    file.write_bytes(b"short")
    with pytest.raises(OSError, match="no journal"):
        Journal(file)
    assert journal.begun(file) == []
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):  # noqa: PT011 - the kernel's words
        journal.create(link)
    assert not (tmp_path / "elsewhere").exists()


def test_a_service_that_was_given_up_sees_the_seal_and_what_it_noted_before_was_read(tmp_path: Path) -> None:
    file = journal.path(str(tmp_path), 5)
    journal.create(file)
    writer = Journal(file)
    writer.note(MessageId(7, 1))
    assert not writer.sealed
    assert journal.seal(file) == [MessageId(7, 1)]
    assert (writer.sealed, file.exists()) == (True, False)
    writer.note(MessageId(7, 2))
    assert journal.seal(file) == []
    journal.create(file)
    assert not Journal(file).sealed


def test_a_journal_that_an_earlier_version_made_is_never_sealed(tmp_path: Path) -> None:
    file = journal.path(str(tmp_path), 5)
    file.write_bytes(bytes(1024 * 16))
    writer = Journal(file)
    writer.note(MessageId(7, 1))
    assert not writer.sealed
    assert journal.begun(file) == [MessageId(7, 1)]
