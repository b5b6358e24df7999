"""Keep a program running under a supervisord of its own.

Read (what runs, with what) -> plan (pure: `plan`) -> apply. A program is restarted when a file it depends on is
another than the process was started with: a restart that was due survives a run that failed before it. Speaks supervisor's
XML-RPC over its unix socket with the standard library, so it works under any python, also while the package's
environment is missing or half made. Processes that a killed supervisord left behind are ended first.
"""

from __future__ import annotations

import configparser
import glob
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import time

# Spoken with our own supervisord, over a unix socket that only its user may open.
import xmlrpc.client  # nosec B411
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: supervised
short_description: Keep a program running under supervisord
description:
  - Starts supervisord when it is absent, restarts it when its own configuration is newer than its process.
  - Adds, replaces, starts or restarts one program, and waits until supervisord calls it running.
author: openstack-zeromq maintainers
options:
  config:
    description: The supervisord.conf. Its directory and that of the program's file must exist.
    type: path
    required: true
  supervisord:
    description: The executable; needed to start it.
    type: path
  program:
    description:
      - The program of O(config), or of a file that it includes.
      - With O(state=absent) and no program, supervisord itself is shut down, with all its programs.
    type: str
  state:
    description: V(started) keeps the program running, V(absent) stops it and forgets it.
    type: str
    choices: [started, absent]
    default: started
  newer:
    description:
      - Restart the program when one of these files changed after it started. This is remembered in C(started), beside O(config),
        so that the machine's clock may jump.
    type: list
    elements: path
    default: []
  pending:
    description:
      - Files of O(newer) would be changed by this run.
      - Counts in check mode only, where they are not changed, to tell the restart that a real run does.
    type: bool
    default: false
  restart:
    description: Restart a program that runs, though nothing changed.
    type: bool
    default: false
  farewell:
    description:
      - A command, word by word, that runs before a running program is stopped or restarted, for instance one that drains it.
      - When it fails the step is done all the same, with a warning.
    type: list
    elements: str
    default: []
  farewell_timeout:
    description: Seconds that O(farewell) may take at most.
    type: int
    default: 120
  timeout:
    description: Seconds to wait at most for each step.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Keep the receiver running
  supervised:
    config: /etc/openstack-zeromq/supervisord.conf
    supervisord: /opt/openstack-zeromq/bin/supervisord
    program: receiver
    newer:
      - /etc/openstack-zeromq/zeromq.conf
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
pid:
  description: The program's process; 0 when it is absent, or in check mode.
  returned: success
  type: int
"""

ARGUMENT_SPEC = {
    "config": {"type": "path", "required": True},
    "supervisord": {"type": "path"},
    "program": {"type": "str"},
    "state": {"type": "str", "choices": ["started", "absent"], "default": "started"},
    "newer": {"type": "list", "elements": "path", "default": []},
    "pending": {"type": "bool", "default": False},
    "restart": {"type": "bool", "default": False},
    "farewell": {"type": "list", "elements": "str", "default": []},
    "farewell_timeout": {"type": "int", "default": 120},
    "timeout": {"type": "int", "default": 30},
}

ALIVE = ("STARTING", "RUNNING")
DOWN = ("STOPPED", "EXITED", "FATAL")  # what remains, BACKOFF and STOPPING, has to come to rest first
ALREADY_STARTED = 60  # supervisor.xmlrpc.Faults
POLL_INTERVAL = 0.05
DAEMON = "supervisord"
"""Under which name it is remembered with what supervisord itself was started."""


class SupervisedError(Exception):
    """Something did not happen in time; the message says what and shows the log."""


@dataclass(frozen=True)
class Snapshot:
    """What was found. `None` for a process that does not run."""

    daemon: int | None  # supervisord's pid
    daemon_outdated: bool = False  # its own configuration is newer
    redefined: bool = False  # the program's file says something else than what runs
    program: str | None = None  # the state that supervisord has it in
    outdated: bool = False  # a file that the program depends on is newer
    strays: tuple[int, ...] = ()  # left behind by a supervisord that was killed
    stamps: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict)  # what each is made of, by its name

    @property
    def known(self) -> bool:
        return self.program is not None


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", "started", ("supervisord", "program"))],
        supports_check_mode=True,
    )
    asked = module.params
    supervisor = Supervisor(Path(asked["config"]), asked["supervisord"], asked["timeout"])
    try:
        found = look(supervisor, asked, due=asked["restart"] or (module.check_mode and asked["pending"]))
        actions = plan(found, asked["state"], asked["program"])
        if not module.check_mode:
            if asked["farewell"] and disturbs(found, actions):
                farewell(asked["farewell"], asked["farewell_timeout"], module.warn)
            for action in actions:
                supervisor.apply(action, asked["program"])
            if asked["state"] == "started":
                supervisor.wait_until_running(asked["program"])
            remember(supervisor, found, asked)
        pid = supervisor.pid_of(asked["program"]) if asked["state"] == "started" else 0
    except (SupervisedError, OSError, configparser.Error, xmlrpc.client.Error, http.client.HTTPException) as fault:
        module.fail_json(msg=f"{asked['config']}: {fault}")
    module.exit_json(changed=bool(actions), actions=actions, pid=pid)


def look(supervisor: Supervisor, asked: dict, due: bool) -> Snapshot:
    """Ask the system what there is; changes nothing (supervisord only reads its files again). `due`: a restart is."""
    daemon, program = supervisor.daemon(), asked["program"]
    strays = tuple(supervisor.strays(daemon))
    stamps = {DAEMON: stamps_of([asked["config"]]), **({program: stamps_of(asked["newer"])} if program else {})}
    if daemon is None:
        return Snapshot(daemon=None, strays=strays, stamps=stamps)
    info = supervisor.info(program)
    pid = info["pid"] if info else 0
    return Snapshot(
        daemon=daemon,
        daemon_outdated=supervisor.started(DAEMON).outdated(process_of(daemon), since(daemon), stamps[DAEMON]),
        redefined=supervisor.reread(program),
        program=info["statename"] if info else None,
        outdated=due or (pid > 0 and supervisor.started(program).outdated(process_of(pid), since(pid), stamps[program])),
        strays=strays,
        stamps=stamps,
    )


def remember(supervisor: Supervisor, found: Snapshot, asked: dict) -> None:
    """What runs now was started with the files that were found."""
    program = asked["program"]
    if asked["state"] == "absent":
        supervisor.started(program or DAEMON).forget()
        return
    for name, pid in ((DAEMON, supervisor.daemon()), (program, supervisor.pid_of(program))):
        if pid:
            supervisor.started(name).remember(process_of(pid), found.stamps[name])


def plan(found: Snapshot, state: str, program: str | None) -> list[str]:
    """The steps from what was found to what is wanted. Pure."""
    steps = [f"end stray process {pid}" for pid in found.strays]
    if state == "absent":
        return steps + _steps_away(found, program)
    if found.daemon is None:
        return [*steps, "start supervisord"]
    if found.daemon_outdated:
        return [*steps, "shut supervisord down", "start supervisord"]
    return steps + _steps_to_run(found)


def disturbs(found: Snapshot, actions: list[str]) -> bool:
    """Whether one of `actions` ends a program that works."""
    return found.program == "RUNNING" and not {"stop", "remove", "shut supervisord down"}.isdisjoint(actions)


def farewell(command: list[str], timeout: float, warn: Callable[[str], None]) -> None:
    """Let the program prepare for its end; `warn` hears when it did not."""
    try:
        subprocess.run(  # noqa: S603 - our own arguments, no shell
            command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.CalledProcessError as fault:
        said = (fault.stderr.strip() or fault.stdout.strip() or f"exit status {fault.returncode}").splitlines()
        warn(f"stopped though {shlex.join(command)} failed: {said[-1]}")
    except (OSError, subprocess.TimeoutExpired) as fault:
        warn(f"stopped though {shlex.join(command)} failed: {fault}")


def _steps_away(found: Snapshot, program: str | None) -> list[str]:
    if found.daemon is None:
        return []
    if program is None:
        return ["shut supervisord down"]
    return ["remove"] if found.known else []


def _steps_to_run(found: Snapshot) -> list[str]:
    if not found.known:
        return ["add"]
    if found.redefined:
        return ["remove", "add"]
    if found.program in DOWN:
        return ["start"]
    if found.outdated or found.program not in ALIVE:
        return ["stop", "start"]
    return []


class Supervisor:
    """One supervisord, known by its configuration file."""

    def __init__(self, config: Path, executable: str | None, timeout: int) -> None:
        self.config = config
        self._executable = executable
        self._timeout = timeout
        self._parsed = self._parse()
        self._socket = self._parsed.get("unix_http_server", "file", fallback=None)
        self._rpc = self._connect()

    def started(self, name: str) -> Started:
        """What is remembered of the program of this name, or of supervisord itself."""
        return Started(self.config.parent / "started" / f"{name}.json")

    def daemon(self) -> int | None:
        """The pid of the supervisord that answers."""
        if self._rpc is None:
            return None
        try:
            return self._rpc.getPID()
        except (OSError, http.client.HTTPException):
            return None

    def info(self, program: str | None) -> dict | None:
        """What supervisord knows of `program`; None when nothing."""
        return next((info for info in self._rpc.getAllProcessInfo() if info["name"] == program), None)

    def pid_of(self, program: str) -> int:
        info = self.info(program) if self.daemon() else None
        return info["pid"] if info else 0

    def reread(self, program: str | None) -> bool:
        """Let supervisord read its files again: does `program` differ from what runs?"""
        _added, changed, _removed = self._rpc.reloadConfig()[0]
        return program in changed

    def strays(self, daemon: int | None) -> Iterator[int]:
        """Processes of this configuration that do not descend from the supervisord that answers.

        A supervisord is known by its command, its children by the address of its socket in their environment.
        """
        mark = f"SUPERVISOR_SERVER_URL=unix://{self._socket}".encode()
        found = {process.pid: process for process in processes()}
        for process in found.values():
            command = process.command
            is_daemon = len(command) > 2 and command[-2:] == ["-c", str(self.config)] and "supervisord" in command[-3]
            if (is_daemon or mark in process.environment) and daemon not in lineage(process, found):
                yield process.pid

    def apply(self, action: str, program: str | None) -> None:
        verb, _, rest = action.partition(" ")
        if verb == "end":
            end(int(rest.rpartition(" ")[2]), self._timeout)
        elif action == "start supervisord":
            self._launch()
        elif action == "shut supervisord down":
            self._shut_down()
        elif verb == "remove":
            self._rpc.stopProcessGroup(program)
            self._rpc.removeProcessGroup(program)
        elif verb == "add":
            self._rpc.addProcessGroup(program)
        elif verb == "stop":
            self._rpc.stopProcess(program)
        elif verb == "start":
            self._start(program)

    def _start(self, program: str) -> None:
        try:
            self._rpc.startProcess(program, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_STARTED:  # supervisord was quicker
                raise

    def wait_until_running(self, program: str) -> None:
        def runs() -> bool:
            info = self.info(program)
            if info is None:
                raise SupervisedError(f"supervisord does not know a program {program}; is its file included?")
            return info["statename"] == "RUNNING"

        if not until(runs, self._timeout):
            state = self.info(program)["statename"]
            raise SupervisedError(
                f"program {program} is {state} after {self._timeout} s\n{tail(self._log(f'program:{program}'))}"
            )

    def _launch(self) -> None:
        # A clean environment: what runs must not depend on who ran the playbook.
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": str(Path.home())}
        command = [self._executable, "-c", str(self.config)]
        done = subprocess.run(  # noqa: S603 - our own arguments, no shell
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, cwd="/"
        )
        if done.returncode != 0:
            raise SupervisedError(f"{shlex.join(command)} failed: {(done.stderr or done.stdout).strip()}")
        self._rpc = self._connect()
        if not until(lambda: self.daemon() is not None, self._timeout):
            raise SupervisedError(f"supervisord does not answer after {self._timeout} s\n{tail(self._log('supervisord'))}")

    def _shut_down(self) -> None:
        pid = self.daemon()
        self._rpc.shutdown()
        if pid and not until(lambda: not alive(pid), self._timeout):
            raise SupervisedError(f"supervisord, process {pid}, still runs {self._timeout} s after it was told to end")

    def _connect(self) -> xmlrpc.client.ServerProxy | None:
        if self._socket is None:
            return None
        return xmlrpc.client.ServerProxy("http://localhost", UnixTransport(self._socket, self._timeout)).supervisor

    def _log(self, section: str) -> str | None:
        option = "logfile" if section == "supervisord" else "stdout_logfile"
        return self._parsed.get(section, option, fallback=None)

    def _parse(self) -> configparser.RawConfigParser:
        parser = configparser.RawConfigParser()
        parser.read(self.config, encoding="utf-8")
        for pattern in parser.get("include", "files", fallback="").split():
            parser.read(sorted(glob.glob(str(self.config.parent / pattern))), encoding="utf-8")
        return parser


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: str) -> http.client.HTTPConnection:
        return UnixConnection(self._path, self._timeout)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Process:
    """A process, as far as we may look at it."""

    pid: int
    parent: int
    command: list[str]
    environment: frozenset[bytes]


def processes() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        with suppress(OSError):  # it ended meanwhile, or is not ours to look at
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            environment = frozenset((entry / "environ").read_bytes().split(b"\0"))
            yield Process(pid, int(stat_fields(pid)[1]), command, environment)


def lineage(process: Process, found: dict[int, Process]) -> Iterator[int]:
    """The pids of a process and its ancestors."""
    pid = process.pid
    while pid in found:
        yield pid
        pid = found[pid].parent


class Started:
    """The files that processes were started with, each with the stamp that it had then.

    Stamps are compared for equality, so no clock decides: a node's clock may have run ahead, or been set back, since. Only of a
    process that was started by somebody else with other files it is asked what is later.
    """

    def __init__(self, record: Path) -> None:
        self._record = record
        self._known: dict[str, dict] = {}
        with suppress(OSError, ValueError):
            read = json.loads(record.read_text(encoding="utf-8"))
            if isinstance(read, dict):
                self._known = {file: said for file, said in read.items() if isinstance(said, dict)}

    def outdated(self, process: str, moment: float, stamps: Mapping[str, list[int]]) -> bool:
        """Whether a file changed after `process` started, at `moment` by the present clock."""
        return any(self._changed(process, moment, file, stamp) for file, stamp in stamps.items())

    def _changed(self, process: str, moment: float, file: str, stamp: list[int]) -> bool:
        known = self._known.get(file, {})
        if known.get("stamp") == stamp:
            return False  # a later process has read it as it is, too
        if known.get("process") == process:
            return True
        return max(stamp[:2]) / 1e9 > moment

    def remember(self, process: str, stamps: Mapping[str, list[int]]) -> None:
        """`process` was started with these files."""
        said = {**self._known, **{file: {"process": process, "stamp": stamp} for file, stamp in stamps.items()}}
        if said == self._known:
            return
        self._known = said
        self._record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = self._record.with_name(f".{self._record.name}.new")
        fresh.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(self._record)

    def forget(self) -> None:
        """Leave nothing behind, empty directories included."""
        self._record.unlink(missing_ok=True)
        with suppress(OSError):
            os.removedirs(self._record.parent)


def stamps_of(files: Iterable[str]) -> dict[str, list[int]]:
    """Each of `files` that is there: when it changed (of a symbolic link also when what it names did), and its size."""
    found = {}
    for file in filter(None, files):
        with suppress(OSError):
            named = os.stat(file)
            found[file] = [os.lstat(file).st_mtime_ns, named.st_mtime_ns, named.st_size]
    return found


def boot() -> str:
    """Names this run of the machine: what counts from its start counts with this only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def process_of(pid: int) -> str:
    """Names process `pid`, and no other that has that number later."""
    return f"{boot()} {pid} {stat_fields(pid)[19]}"


def since(pid: int) -> float:
    """When process `pid` started (seconds, wall clock)."""
    return time.time() - uptime() + int(stat_fields(pid)[19]) / os.sysconf("SC_CLK_TCK")


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the state on: [0] state, [1] parent, [19] start in ticks after boot (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def uptime() -> float:
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])


def alive(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] != "Z"
    except OSError:
        return False


def end(pid: int, timeout: float) -> None:
    """SIGTERM, and SIGKILL to what does not heed it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if until(lambda: not alive(pid), timeout):
            return
    raise SupervisedError(f"process {pid} cannot be ended")


def until(done: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def tail(path: str | None, count: int = 10) -> str:
    if path is None or not os.path.exists(path):
        return "(no log)"
    return "\n".join(Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


if __name__ == "__main__":
    main()
