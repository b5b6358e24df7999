"""directories: places with their modes and owners, all of them in one execution."""

import os
import stat

import pytest

from .conftest import CHECKOUT, load

directories = load(CHECKOUT / "library" / "directories.py")


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_what_is_missing_is_made_with_its_parents_whatever_the_umask_is(run_module, tmp_path):
    wanted = [{"path": str(tmp_path / "a/b"), "mode": "0755"}, {"path": str(tmp_path / "a/b/c"), "mode": "2750"}]
    before = os.umask(0o077)
    try:
        would = run_module(directories, check=True, directories=wanted)
        assert not (tmp_path / "a").exists()
        done = run_module(directories, directories=wanted)
    finally:
        os.umask(before)
    assert done["mended"] == would["mended"] == [one["path"] for one in wanted]
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == ["0o755", "0o755", "0o2750"]
    assert not run_module(directories, directories=wanted)["changed"]


def test_a_mode_and_an_owner_that_somebody_changed_are_restored_and_shown(run_module, tmp_path):
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", 1, 1)
    wanted = [{"path": str(tmp_path / "a"), "mode": "0755", "owner": "root", "group": "root"}]
    would = run_module(directories, check=True, directories=wanted)
    assert (mode(tmp_path / "a"), (tmp_path / "a").stat().st_uid) == ("0o700", 1)
    done = run_module(directories, directories=wanted)
    assert would["changed"]
    assert done["changed"]
    assert done["diff"]["before"][wanted[0]["path"]]["mode"] == "0700"
    assert (mode(tmp_path / "a"), (tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == ("0o755", 0, 0)


def test_whoever_owns_it_stays_where_nobody_is_named(run_module, tmp_path):
    (tmp_path / "a").mkdir(mode=0o755)
    os.chown(tmp_path / "a", 1, 1)
    assert not run_module(directories, directories=[{"path": str(tmp_path / "a"), "mode": "0755"}])["changed"]


def test_in_check_mode_a_user_may_still_be_missing(run_module, tmp_path):
    wanted = [{"path": str(tmp_path / "a"), "mode": "0755", "owner": "nobody-of-that-name"}]
    assert run_module(directories, check=True, directories=wanted)["mended"] == [str(tmp_path / "a")]


def test_a_link_to_a_directory_is_that_directory(run_module, tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    assert run_module(directories, directories=[{"path": str(tmp_path / "link"), "mode": "0755"}])["changed"]
    assert mode(tmp_path / "real") == "0o755"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("below", ["a", "a/b"])
@pytest.mark.parametrize("what", ["file", "link"])
def test_what_is_in_the_way_is_named(run_module, tmp_path, below, what):
    if what == "file":
        (tmp_path / "a").write_text("")
    else:
        (tmp_path / "a").symlink_to("nowhere")
    done = run_module(directories, directories=[{"path": str(tmp_path / below), "mode": "0755"}])
    assert done["failed"]
    assert f"{tmp_path}/a is no directory" in done["msg"]
