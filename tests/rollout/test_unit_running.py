"""Module unit_running: the plan for every situation. Real systemd goes through them in molecule's scenarios."""

import os
import shutil
import time
from pathlib import Path

import pytest

from .conftest import CHECKOUT, load

supervised = load(CHECKOUT / "library" / "supervised.py")
unit_running = load(CHECKOUT / "library" / "unit_running.py")
Unit = unit_running.Unit


def systemd(place, timeout=5):
    return unit_running.Systemd(timeout, unit_running.Started(place / "started" / "it.json"))


UP = {"active": "active", "sub": "running", "boots": True, "pid": 7}
OPEN = {"active": "active", "sub": "listening", "boots": True}


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        ({"load": "not-found"}, ["enable it.service", "start it.service"]),
        ({}, ["enable it.service", "start it.service"]),
        ({"boots": True}, ["start it.service"]),
        ({"boots": True, "active": "failed"}, ["start it.service"]),
        (UP, []),
        ({**UP, "active": "reloading"}, []),
        ({**UP, "boots": False}, ["enable it.service"]),
        ({**UP, "outdated": True}, ["restart it.service"]),
        ({**UP, "stale": True, "outdated": True}, ["reload systemd", "restart it.service"]),
        ({**UP, "active": "activating", "sub": "start"}, []),
        ({**UP, "active": "activating", "sub": "auto-restart"}, ["restart it.service"]),
        ({**UP, "active": "deactivating", "sub": "stop-sigterm"}, ["restart it.service"]),
    ],
)
def test_plan_to_run(found, steps):
    assert unit_running.plan(Unit("it.service", **found), [], "started", enabled=True) == steps


@pytest.mark.parametrize(
    ("service", "socket", "steps"),
    [
        ({"boots": True}, {}, ["enable it.socket", "start it.socket", "start it.service"]),
        (UP, OPEN, []),
        ({**UP, "outdated": True}, OPEN, ["restart it.service"]),
        (UP, {**OPEN, "outdated": True}, ["stop it.service", "restart it.socket", "start it.service"]),
        (UP, {"boots": True}, ["stop it.service", "start it.socket", "start it.service"]),
        ({"boots": True}, OPEN, ["start it.service"]),
    ],
)
def test_plan_to_run_with_a_socket(service, socket, steps):
    assert unit_running.plan(Unit("it.service", **service), [Unit("it.socket", **socket)], "started", enabled=True) == steps


@pytest.mark.parametrize(
    ("service", "socket", "steps"),
    [
        ({"load": "not-found"}, {"load": "not-found"}, []),
        ({}, {}, []),
        (UP, OPEN, ["stop it.socket", "disable it.socket", "stop it.service", "disable it.service"]),
        ({"active": "failed"}, {"load": "not-found"}, ["stop it.service"]),
        ({**UP, "load": "not-found", "boots": False}, {"load": "not-found"}, ["stop it.service"]),
    ],
)
def test_plan_to_be_absent(service, socket, steps):
    assert unit_running.plan(Unit("it.service", **service), [Unit("it.socket", **socket)], "absent") == steps


def test_files_go_when_what_they_describe_has_ended():
    away = unit_running.plan(Unit("it.service", **UP), [], "absent", files=["/etc/it.service", "/etc/it.rules"])
    assert away == ["stop it.service", "disable it.service", "remove /etc/it.service", "remove /etc/it.rules", "reload systemd"]


def test_a_file_is_removed(tmp_path):
    (tmp_path / "it with spaces").touch()
    systemd(tmp_path, 1).apply(f"remove {tmp_path}/it with spaces")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("found", "steps", "disturbed"),
    [
        (UP, ["restart it.service"], True),
        (UP, ["stop it.service", "restart it.socket", "start it.service"], True),
        (UP, ["reload systemd", "enable it.service"], False),
        ({"active": "failed"}, ["start it.service"], False),
        ({**UP, "active": "activating", "sub": "auto-restart"}, ["restart it.service"], False),
    ],
)
def test_only_a_service_that_works_is_prepared_for_its_end(found, steps, disturbed):
    assert unit_running.disturbs(Unit("it.service", **found), steps) == disturbed


def test_a_farewell_that_fails_or_takes_too_long_is_a_warning(tmp_path):
    warnings = []
    service_manager = systemd(tmp_path)
    service_manager.farewell(["true"], 5, warnings.append)
    assert not warnings
    service_manager.farewell(["sh", "-c", "echo still busy; exit 3"], 5, warnings.append)
    service_manager.farewell(["sleep", "60"], 0.2, warnings.append)
    assert "still busy" in warnings[0]
    assert "no end within 0.2 s" in warnings[1]


def test_a_drop_in_that_systemd_has_not_read_is_found_whatever_it_says_of_a_reload(tmp_path):
    """Before, the drop-in of a service that ran counted only from the next run on, which reloaded systemd: changed=1."""
    folder = tmp_path / "it.service.d"
    assert unit_running.unread("it.service", [], str(tmp_path)) == []
    folder.mkdir()
    for name, text in (("a.conf", "[Unit]"), ("b.conf", "[Unit]"), ("none.conf", ""), ("other", "[Unit]")):
        (folder / name).write_text(text)
    (folder / "off.conf").symlink_to("/dev/null")
    read = [str(folder / name) for name in ("a.conf", "gone.conf")]
    assert unit_running.unread("it.service", read, str(tmp_path)) == [str(folder / "b.conf"), read[1]]


def test_what_is_not_to_start_at_boot_is_disabled():
    assert unit_running.plan(Unit("it.service", **UP), [], "started", enabled=False) == ["disable it.service"]


def test_whether_somebody_elses_service_starts_at_boot_stays_as_it_is():
    assert unit_running.plan(Unit("it.service", **{**UP, "boots": False}), [], "started") == []


@pytest.mark.parametrize("load", ["masked", "not-found"])
def test_what_cannot_be_started_is_refused_with_the_remedy(load):
    with pytest.raises(unit_running.UnitError, match=r"unmask it\.service|write it to /etc"):
        unit_running.refuse([Unit("it.service", load=load)], "started", check_mode=False)
    unit_running.refuse([Unit("it.service", load=load)], "absent", check_mode=False)


def test_a_unit_that_does_not_exist_yet_is_no_failure_in_check_mode():
    unit_running.refuse([Unit("it.service", load="not-found")], "started", check_mode=True)


@pytest.fixture(params=[unit_running, supervised], ids=["systemd", "supervisor"])
def started(request, tmp_path):
    """`started()` reads anew what is remembered; `started.stamps(file, …)` is how files are now."""

    def read():
        return request.param.Started(tmp_path / "started" / "it.json")

    read.stamps = lambda *files: request.param.stamps_of(map(str, files))
    return read


def test_of_a_link_both_count_the_link_and_what_it_names(started, tmp_path):
    """A package is flipped back to an older one by its link: nothing else is new."""
    old, link, hour_ago = tmp_path / "old", tmp_path / "link", time.time() - 3600

    def outdated():
        return started().outdated("process 1", hour_ago, started.stamps(link, tmp_path / "missing", ""))

    old.write_text("")
    os.utime(old, (1, 1))
    link.symlink_to(old)
    assert outdated()
    os.utime(link, (1, 1), follow_symlinks=False)
    assert not outdated()
    os.utime(old)
    assert outdated()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_process_is_not_outdated_by_a_clock_that_jumps(started, tmp_path, hours):
    """Its files are of the future once the clock was set back; and as old as it, whatever it is set to."""
    file = tmp_path / "file"
    file.write_text("")
    now = time.time()
    os.utime(file, (now + 3600 * hours,) * 2)
    started().remember("process 1", started.stamps(file))
    assert not started().outdated("process 1", now - 7200, started.stamps(file))
    assert not started().outdated("process 2, after a reboot", now - 7200, started.stamps(file))
    os.utime(file, (now - 3600 * 24,) * 2)
    assert started().outdated("process 1", now, started.stamps(file)), "it is another file, however old"
    assert not started().outdated("process 2", now, started.stamps(file)), "somebody restarted it since, as far as one can tell"
    os.utime(file, (now + 60,) * 2)
    assert started().outdated("process 2", now, started.stamps(file))


def test_what_was_remembered_of_other_files_stays(started, tmp_path):
    """Two entries of zeromq_services may share a unit."""
    mine, yours = tmp_path / "mine", tmp_path / "yours"
    for file in (mine, yours):
        file.write_text("")
        started().remember("process 1", started.stamps(file))
    yours.write_text("more")
    assert not started().outdated("process 1", time.time() - 3600, started.stamps(mine))
    assert started().outdated("process 1", time.time() + 3600, started.stamps(yours))


@pytest.mark.parametrize("content", ["", "{", "[]", "[1]", '{"file": 1}'])
def test_a_record_that_is_broken_counts_as_none_and_is_written_anew(started, tmp_path, content):
    file, record = tmp_path / "file", tmp_path / "started" / "it.json"
    file.write_text("")
    record.parent.mkdir()
    record.write_text(content)
    assert started().outdated("process 1", time.time() - 3600, started.stamps(file))
    started().remember("process 1", started.stamps(file))
    assert not started().outdated("process 1", time.time() - 3600, started.stamps(file))
    started().forget()
    assert not record.parent.exists()
    started().forget()


def test_a_process_is_dated_by_its_start_and_a_socket_by_its_opening():
    boot = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
    process = {"ActiveState": "active", "MainPID": "7", "ExecMainStartTimestampMonotonic": "5000000"}
    assert unit_running.since({**process, "ActiveEnterTimestampMonotonic": "9000000"}) == pytest.approx(boot + 5, abs=0.1)
    socket = {"ActiveState": "active", "ActiveEnterTimestampMonotonic": "9000000"}
    assert unit_running.since(socket) == pytest.approx(boot + 9, abs=0.1)
    assert unit_running.since({**socket, "ActiveState": "inactive"}) is None


def test_a_machine_without_systemd_is_told_what_to_do_instead(run_module, monkeypatch, tmp_path):
    """Where systemctl is installed but no systemd runs, as where there is none at all."""
    for path in (os.environ["PATH"] if not Path("/run/systemd/system").exists() else str(tmp_path), str(tmp_path)):
        monkeypatch.setenv("PATH", path)
        assert shutil.which("systemctl") or path == str(tmp_path)
        told = run_module(unit_running, name="it")
        assert told["failed"]
        assert "let supervisor run the daemons" in told["msg"]
