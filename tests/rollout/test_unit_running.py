"""Module unit_running: the plan for every situation. Real systemd goes through them in molecule's scenarios."""

import os
import shutil
import time
from pathlib import Path

import pytest

from .conftest import CHECKOUT, load

unit_running = load(CHECKOUT / "library" / "unit_running.py")
Unit = unit_running.Unit

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
    unit_running.Systemd(1).apply(f"remove {tmp_path}/it with spaces")
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


def test_a_farewell_that_fails_or_takes_too_long_is_a_warning():
    warnings = []
    systemd = unit_running.Systemd(5)
    systemd.farewell(["true"], 5, warnings.append)
    assert not warnings
    systemd.farewell(["sh", "-c", "echo still busy; exit 3"], 5, warnings.append)
    systemd.farewell(["sleep", "60"], 0.2, warnings.append)
    assert "still busy" in warnings[0]
    assert "no end within 0.2 s" in warnings[1]


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


def test_of_a_link_both_count_the_link_and_what_it_names(tmp_path):
    """A package is flipped back to an older one by its link: nothing else is new."""
    old, link = tmp_path / "old", tmp_path / "link"
    old.write_text("")
    os.utime(old, (1, 1))
    link.symlink_to(old)
    assert unit_running.newer_than(time.time() - 3600, [str(link)])
    os.utime(link, (1, 1), follow_symlinks=False)
    assert not unit_running.newer_than(time.time() - 3600, [str(link), str(tmp_path / "missing"), ""])
    os.utime(old)
    assert unit_running.newer_than(time.time() - 3600, [str(link)])


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
