"""Module supervised: the plan for every situation, and a real supervisord that goes through them."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import CHECKOUT, load

supervised = load(CHECKOUT / "library" / "supervised.py")
Snapshot = supervised.Snapshot


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        (Snapshot(daemon=None), ["start supervisord"]),
        (Snapshot(daemon=None, strays=(7, 8)), ["end stray process 7", "end stray process 8", "start supervisord"]),
        (Snapshot(daemon=1, daemon_outdated=True), ["shut supervisord down", "start supervisord"]),
        (Snapshot(daemon=1), ["add"]),
        (Snapshot(daemon=1, program="RUNNING"), []),
        (Snapshot(daemon=1, program="STARTING"), []),
        (Snapshot(daemon=1, program="RUNNING", redefined=True), ["remove", "add"]),
        (Snapshot(daemon=1, program="RUNNING", outdated=True), ["stop", "start"]),
        (Snapshot(daemon=1, program="STOPPED"), ["start"]),
        (Snapshot(daemon=1, program="EXITED"), ["start"]),
        (Snapshot(daemon=1, program="FATAL", outdated=True), ["start"]),
        (Snapshot(daemon=1, program="BACKOFF"), ["stop", "start"]),
    ],
)
def test_plan_to_run(found, steps):
    assert supervised.plan(found, "started", "receiver") == steps


@pytest.mark.parametrize(
    ("found", "program", "steps"),
    [
        (Snapshot(daemon=None), "receiver", []),
        (Snapshot(daemon=None, strays=(7,)), None, ["end stray process 7"]),
        (Snapshot(daemon=1, program="RUNNING"), "receiver", ["remove"]),
        (Snapshot(daemon=1), "receiver", []),
        (Snapshot(daemon=1, program="RUNNING"), None, ["shut supervisord down"]),
    ],
)
def test_plan_to_be_absent(found, program, steps):
    assert supervised.plan(found, "absent", program) == steps


class TestWithARealSupervisord:
    @pytest.fixture
    def place(self, tmp_path_factory, run_module):
        """A directory with supervisord's configuration and one program that sleeps."""
        place = tmp_path_factory.mktemp("s")
        (place / "conf.d").mkdir()
        (place / "supervisord.conf").write_text(
            f"[supervisord]\nlogfile = {place}/supervisord.log\npidfile = {place}/supervisord.pid\n"
            f"[unix_http_server]\nfile = {place}/sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            "[include]\nfiles = conf.d/*.conf\n"
        )
        self.write_program(place, "sleep 987654321")
        (place / "settings").write_text("")
        yield place
        run_module(supervised, config=str(place / "supervisord.conf"), state="absent")

    @pytest.fixture
    def keep(self, place, run_module):
        def keep(check=False, **arguments):
            result = run_module(
                supervised,
                check,
                config=str(place / "supervisord.conf"),
                supervisord=str(Path(sys.executable).parent / "supervisord"),
                **{"program": "sleeper", "newer": [str(place / "settings")], "timeout": 20, **arguments},
            )
            assert not result.get("failed"), result["msg"]
            return result

        return keep

    def write_program(self, place, command):
        (place / "conf.d" / "sleeper.conf").write_text(
            f"[program:sleeper]\ncommand = {command}\nstartsecs = 0\nstdout_logfile = {place}/sleeper.log\n"
        )

    def test_program_is_started_once(self, keep, place):
        told = keep(check=True)
        assert told["actions"] == ["start supervisord"]
        assert not (place / "sock").exists()
        made = keep()
        assert made["actions"] == told["actions"]
        assert alive(made["pid"])
        again = keep()
        assert not again["changed"]
        assert again["pid"] == made["pid"]

    def test_restart_that_was_due_is_done_whenever_the_next_run_comes(self, keep, place):
        first = keep()
        later = time.time() + 1
        os.utime(place / "settings", (later, later))
        assert keep(check=True)["actions"] == ["stop", "start"]
        second = keep()
        assert second["pid"] != first["pid"]
        assert not keep()["changed"]

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_clock_that_was_set_back_or_forth_restarts_nothing(self, keep, place, monkeypatch, hours):
        """Neither once, nor at every run until it has caught up."""
        future = time.time() + 3600
        os.utime(place / "settings", (future, future))
        os.utime(place / "supervisord.conf", (future, future))
        first = keep()
        assert not keep()["changed"], "what was written while the clock ran ahead"
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        assert not keep(check=True)["changed"]
        assert keep()["pid"] == first["pid"]
        (place / "settings").write_text("new")
        os.utime(place / "settings", (1, 1))
        assert keep()["pid"] != first["pid"], "what changed counts, however old"

    def test_a_link_that_names_an_older_file_now_asks_for_a_restart(self, keep, place):
        """A package is flipped back to an older one by its link: nothing else is new."""
        link = place / "active"
        link.symlink_to(place / "settings")
        newer = [str(link)]
        os.utime(link, (1, 1), follow_symlinks=False)
        os.utime(place / "settings", (1, 1))
        first = keep(newer=newer)
        assert not keep(newer=newer)["changed"]
        later = time.time() + 1
        os.utime(link, (later, later), follow_symlinks=False)
        assert keep(newer=newer)["pid"] != first["pid"]

    def test_restart_is_told_in_check_mode_when_a_file_is_about_to_change(self, keep):
        keep()
        assert keep(check=True, pending=True)["actions"] == ["stop", "start"]

    def test_program_is_prepared_for_its_end_only_when_it_ends(self, keep, place):
        farewell = ["touch", str(place / "farewell")]
        first = keep(farewell=farewell)
        assert not keep(farewell=farewell)["changed"]
        assert keep(farewell=farewell, restart=True, check=True)["actions"] == ["stop", "start"]
        assert not (place / "farewell").exists()
        assert keep(farewell=farewell, restart=True)["pid"] != first["pid"]
        assert (place / "farewell").exists()

    @pytest.mark.parametrize("farewell", [["sh", "-c", "echo still busy; exit 3"], ["/nowhere/zmqctl"]])
    def test_program_ends_though_its_farewell_fails(self, keep, farewell):
        first = keep()
        assert keep(farewell=farewell, restart=True)["pid"] != first["pid"]

    def test_changed_program_is_replaced(self, keep, place):
        first = keep()
        self.write_program(place, "sleep 987654322")
        assert keep(check=True)["actions"] == ["remove", "add"]
        second = keep()
        assert second["actions"] == ["remove", "add"]
        assert second["pid"] != first["pid"]
        assert not keep()["changed"]

    def test_changed_configuration_of_supervisord_restarts_it(self, keep, place):
        daemon = daemon_pid(place, keep)
        later = time.time() + 1
        os.utime(place / "supervisord.conf", (later, later))
        assert keep()["actions"] == ["shut supervisord down", "start supervisord"]
        os.utime(place / "supervisord.conf", (later - 3600, later - 3600))
        assert daemon_pid(place, keep) != daemon
        assert not keep()["changed"]

    def test_what_a_killed_supervisord_left_behind_is_ended_first(self, keep, place):
        daemon = daemon_pid(place, keep)
        orphan = keep()["pid"]
        os.kill(daemon, signal.SIGKILL)
        assert supervised.until(lambda: not alive(daemon), 5)
        made = keep()
        assert made["actions"] == [f"end stray process {orphan}", "start supervisord"]
        assert not alive(orphan)
        assert alive(made["pid"])

    def test_program_that_cannot_start_fails_with_its_log(self, place, run_module):
        self.write_program(place, "sh -c 'echo the reason is here; exit 3'")
        text = (place / "conf.d" / "sleeper.conf").read_text().replace("startsecs = 0", "startsecs = 1")
        (place / "conf.d" / "sleeper.conf").write_text(text)
        told = run_module(
            supervised,
            config=str(place / "supervisord.conf"),
            supervisord=str(Path(sys.executable).parent / "supervisord"),
            program="sleeper",
            timeout=3,
        )
        assert told["failed"]
        assert "the reason is here" in told["msg"]

    def test_absent_stops_the_program_and_then_supervisord(self, keep, place):
        pid = keep()["pid"]
        daemon = daemon_pid(place, keep)
        (place / "conf.d" / "sleeper.conf").unlink()
        assert keep(state="absent", check=True)["actions"] == ["remove"]
        assert alive(pid)
        assert keep(state="absent")["actions"] == ["remove"]
        assert not alive(pid)
        assert not keep(state="absent")["changed"]
        assert keep(state="absent", program=None)["actions"] == ["shut supervisord down"]
        assert not alive(daemon)
        assert not keep(state="absent", program=None)["changed"]


def daemon_pid(place, keep):
    keep()
    return int((place / "supervisord.pid").read_text())


def alive(pid):
    with suppress(OSError):
        return supervised.stat_fields(pid)[0] != "Z"
    return False
