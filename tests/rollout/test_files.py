"""files: whole files with their modes and owners, all of them in one execution."""

import os
import stat

import pytest

from .conftest import CHECKOUT, load

files = load(CHECKOUT / "library" / "files.py")


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_what_is_missing_or_another_is_written_and_shown_whatever_the_umask_is(run_module, tmp_path):
    (tmp_path / "b").write_text("old\n")
    wanted = [{"path": str(tmp_path / "a"), "content": "ä\n"}, {"path": str(tmp_path / "b"), "content": "new\n", "mode": "0640"}]
    before = os.umask(0o077)
    try:
        would = run_module(files, check=True, files=wanted)
        assert not (tmp_path / "a").exists()
        assert (tmp_path / "b").read_text() == "old\n"
        done = run_module(files, files=wanted)
    finally:
        os.umask(before)
    assert done["written"] == would["written"] == [one["path"] for one in wanted]
    assert [(part["before"], part["after"]) for part in would["diff"] if "before_header" in part] == [
        ("", "ä\n"),
        ("old\n", "new\n"),
    ]
    assert (tmp_path / "a").read_text() == "ä\n"
    assert [mode(tmp_path / name) for name in "ab"] == ["0o644", "0o640"]
    again = run_module(files, files=wanted)
    assert (again["changed"], again["written"], again["diff"]) == (False, [], [])


def test_a_mode_and_an_owner_that_somebody_changed_are_restored(run_module, tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o666)
    os.chown(tmp_path / "a", 1, 1)
    wanted = [{"path": str(tmp_path / "a"), "content": "x", "owner": "root", "group": "root"}]
    assert run_module(files, check=True, files=wanted)["written"] == [str(tmp_path / "a")]
    assert (mode(tmp_path / "a"), (tmp_path / "a").stat().st_uid) == ("0o666", 1)
    assert run_module(files, files=wanted)["changed"]
    assert (mode(tmp_path / "a"), (tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == ("0o644", 0, 0)


def test_a_text_that_is_found_bad_changes_nothing_and_leaves_nothing_behind(run_module, tmp_path):
    (tmp_path / "a").write_text("good")
    told = run_module(files, files=[{"path": str(tmp_path / "a"), "content": "bad", "validate": "grep good %s"}])
    assert told["failed"]
    assert f"{tmp_path / 'a'} stays as it was, for grep good %s failed" in told["msg"]
    assert (tmp_path / "a").read_text() == "good"
    assert os.listdir(tmp_path) == ["a"]
    fine = run_module(files, files=[{"path": str(tmp_path / "a"), "content": "good 2", "validate": "grep good %s"}])
    assert fine["changed"]


def test_no_text_is_logged_or_returned_where_no_difference_is_asked_for(run_module, tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(files.AnsibleModule, "log", lambda _module, message, log_args=None: logged.append((message, log_args)))
    done = run_module(files, diff=False, files=[{"path": str(tmp_path / "a"), "content": "password = geheim"}])
    assert done["changed"]
    assert "geheim" not in str(done)
    assert logged
    assert "geheim" not in str(logged)
    assert done["invocation"] == {"module_args": {"files": [str(tmp_path / "a")]}}


@pytest.mark.parametrize("check", [True, False])
def test_what_is_no_file_is_not_overwritten(run_module, tmp_path, check):
    (tmp_path / "a").mkdir()
    told = run_module(files, check=check, files=[{"path": str(tmp_path / "a"), "content": "x"}])
    assert told["msg"] == f"{tmp_path / 'a'} is no file: move it away, or name another place"


def test_a_missing_directory_is_named_but_in_check_mode(run_module, tmp_path):
    wanted = [{"path": str(tmp_path / "none" / "a"), "content": "x", "owner": "nobody-of-that-name"}]
    assert run_module(files, check=True, files=wanted)["changed"]
    assert run_module(files, files=wanted)["msg"].endswith(f"there is no directory {tmp_path / 'none'}")
