"""What is written is what is read: odd passwords through each filter that writes a file, read back by the program that reads it.

Passwords with quotes and blanks at their ends, `#`, `%`, `$`, `;`, backslashes. The readers are the real ones: oslo.config,
supervisord's parser, Redis and Valkey, Sentinel, Consul, systemd.
"""

import os
import re
import shlex
import string
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from ansible.errors import AnsibleFilterError
from fabric import eventually
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_config import cfg
from ports import free_port
from servers import ConsulAgent, RedisServer, program
from supervisor.options import ServerOptions

from openstack_zeromq import options
from tests.rollout.conftest import CHECKOUT, load

config_files = load(CHECKOUT / "filter_plugins" / "config_files.py")
oslo_config = load(CHECKOUT / "library" / "oslo_config.py")
stores = load(CHECKOUT / "filter_plugins" / "stores.py")
systemd = load(CHECKOUT / "filter_plugins" / "systemd.py")
urls = load(CHECKOUT / "filter_plugins" / "transport_url.py")

ODD = "\"'#%$;\\ ,:@/?&=+~!|`{}()[]<>*é"
PASSWORDS = [
    *('"quoted"', "'quoted'", '"', "'", "\"'", " blanks ", "\tx", "a #b", "#b", "a ;b", ";b", "100%", "%(here)s", "%%"),
    *("$HOME", "$$", "\\$HOME", "\\\\$x", "\\", "a\\", "\\n", "${x}", "a=b:c", "None", "null", "0", "True", "p@ss/w?rd#1:2"),
]
PASSWORD = st.sampled_from(PASSWORDS) | st.text(
    st.sampled_from(ODD + string.ascii_letters + string.digits), min_size=1, max_size=20
)
ONE_LINE = PASSWORD.filter(str.isprintable)  # filters refuse others for Redis and supervisord
OFTEN = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SELDOM = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_by_oslo(text: str, path: Path) -> cfg.ConfigOpts:
    path.write_text(text)
    conf = cfg.ConfigOpts()
    options.register(conf)
    options.register_store_url(conf)
    conf([], default_config_files=[str(path)], default_config_dirs=[])
    return conf


class TestOslo:
    @given(PASSWORD)
    @OFTEN
    def test_a_password_that_a_role_writes(self, tmp_path: Path, password: str) -> None:
        conf = read_by_oslo(config_files.oslo_ini({"matchmaker_redis": {"password": password}}) + "\n", tmp_path / "a.conf")
        assert conf.matchmaker_redis.password == password

    @given(PASSWORD)
    @OFTEN
    def test_a_password_that_is_set_in_a_services_file(self, tmp_path: Path, password: str) -> None:
        wanted = oslo_config.as_text({"matchmaker_redis": {"password": password}})
        for before in ("", "[matchmaker_redis]\npassword = old\n"):
            planned = oslo_config.plan(before, {}, wanted)
            assert read_by_oslo(planned.text, tmp_path / "b.conf").matchmaker_redis.password == password
            again = oslo_config.plan(planned.text, {"edits": [vars(edit) for edit in planned.edits]}, wanted)
            assert again.text == planned.text, "a second run changes nothing"

    @given(PASSWORD, PASSWORD)
    @OFTEN
    def test_a_url_that_the_filter_makes(self, tmp_path: Path, user: str, password: str) -> None:
        url = urls.transport_url("redis", hosts=["192.0.2.1"], username=user, password=password)
        conf = read_by_oslo(config_files.oslo_ini({"DEFAULT": {"transport_url": url}}) + "\n", tmp_path / "c.conf")
        read = options.settings(conf)
        assert (read.redis.username, read.redis.password) == (user, password)

    @given(PASSWORD)
    @OFTEN
    def test_a_token_in_a_url(self, tmp_path: Path, token: str) -> None:
        url = urls.transport_url("consul", hosts=["192.0.2.1"], token=token)
        conf = read_by_oslo(config_files.oslo_ini({"DEFAULT": {"transport_url": url}}) + "\n", tmp_path / "d.conf")
        assert options.settings(conf).consul.token == token

    @given(PASSWORD)
    @OFTEN
    def test_a_password_that_a_module_is_given(self, password: str) -> None:
        assert options.given((), {"matchmaker_redis": {"password": password}}).redis.password == password

    def test_a_number_is_a_password(self) -> None:
        assert urls.transport_url("redis", hosts=["192.0.2.1"], password=0) == "zmq+redis://:0@192.0.2.1:6379/"

    def test_null_leaves_an_option_out(self) -> None:
        assert config_files.oslo_ini({"s": {"a": None, "b": 1}}) == "[s]\nb = 1"

    @pytest.mark.parametrize("value", [["a,b"], [" a"], "a\nb", "a\rb"])
    def test_what_no_file_can_say_is_refused(self, value: object) -> None:
        with pytest.raises(AnsibleFilterError, match=r"cannot have a comma|must be one line"):
            config_files.oslo_ini({"s": {"o": value}})

    @pytest.mark.parametrize("sections", [{"a]\n[b": {"o": 1}}, {"s": {"o\np": 1}}])
    def test_what_is_no_name_is_refused(self, sections: dict[str, dict[str, int]]) -> None:
        with pytest.raises(AnsibleFilterError, match="cannot be the name of"):
            config_files.oslo_ini(sections)


class TestSupervisor:
    @given(st.lists(ONE_LINE | st.just(""), max_size=4))
    @settings(OFTEN, max_examples=20)
    def test_words_of_a_command(self, tmp_path: Path, words: list[str]) -> None:
        command = ["/bin/echo", *words]
        read = self.read({"command": config_files.supervisor_command(command)}, tmp_path)
        assert shlex.split(read.command) == command

    def test_a_path(self, tmp_path: Path) -> None:
        assert self.read({"command": "/bin/true", "directory": f"{tmp_path}/50% $HOME"}, tmp_path).directory == (
            f"{tmp_path}/50% $HOME"
        )

    @pytest.mark.parametrize("value", ["a #b", "a ;b", "#a", " a", "a ", "a\nb", "\x00"])
    def test_what_supervisord_cannot_read_is_refused(self, value: str) -> None:
        with pytest.raises(AnsibleFilterError, match="supervisord cannot read directory"):
            config_files.supervisor_ini({"program:x": {"directory": value}})

    @staticmethod
    def read(lines: dict[str, str], place: Path) -> Any:
        (place / "supervisord.conf").write_text(config_files.supervisor_ini({"supervisord": {}, "program:x": lines}) + "\n")
        parsed = ServerOptions()
        parsed.configfile = str(place / "supervisord.conf")
        parsed.process_config(do_usage=False)
        return parsed.process_group_configs[0].process_configs[0]


class TestRedis:
    @given(st.lists(ONE_LINE, min_size=40, max_size=80))
    @SELDOM
    @pytest.mark.parametrize("kind", ["redis7", "valkey"])
    def test_passwords_of_users(self, kind: str, passwords: list[str]) -> None:
        lines = [["user", f"u{number}", "on", f">{password}", "+ping"] for number, password in enumerate(passwords)]
        with Configured(lines, program=kind) as server:
            for number, password in enumerate(passwords):
                client = redis.Redis(host=server.host, port=server.port, username=f"u{number}", password=password)
                assert client.ping()
                client.close()

    @given(ONE_LINE)
    @SELDOM
    def test_passwords_of_the_server_and_of_its_master(self, password: str) -> None:
        lines = [["masterauth", password], ["requirepass", password]]
        with Configured(lines, password=password) as server:
            assert server.client.config_get("masterauth") == {"masterauth": password}
            server.client.config_rewrite()
            written = next(line for line in (server.directory / "redis.conf").read_text().splitlines() if "masterauth" in line)
            assert stores._words(written) == ["masterauth", password], "what the server writes is read as it reads it"

    @given(st.lists(ONE_LINE, min_size=1, max_size=4))
    @OFTEN
    def test_words_are_read_as_they_were_written(self, words: list[str]) -> None:
        assert stores._words(stores._text([words]).rstrip("\n")) == words

    @pytest.mark.parametrize("kind", ["redis7", "redis8", "valkey"])
    def test_a_password_that_the_role_lets_through_outlives_what_a_sentinel_writes(self, kind: str, tmp_path: Path) -> None:
        password = "".join(letter for letter in ODD if not re.search(refused_by_sentinels(), letter))
        name = "valkey" if kind == "valkey" else "redis"
        port = free_port(["127.0.0.1"])
        lines = [
            *(["port", port], ["dir", tmp_path], ["bind", "127.0.0.1"], ["requirepass", password]),
            *(["sentinel", "monitor", "m", "127.0.0.1", 1, 2], ["sentinel", "auth-pass", "m", password]),
        ]
        config = tmp_path / "sentinel.conf"
        config.write_text(stores.redis_config(lines) + "\n")
        client = redis.Redis(port=port, password=password, decode_responses=True)
        for _ in range(2):  # the second time it reads what it has written itself
            with subprocess.Popen([program(kind, f"{name}-server"), config, "--sentinel"], stdout=subprocess.DEVNULL) as sentinel:
                try:
                    eventually(lambda: _answers(client), within=20)
                finally:
                    sentinel.terminate()
            assert f"sentinel auth-pass m {password}" in config.read_text().splitlines()
        client.close()

    @pytest.mark.parametrize("password", ['a"b', "a'b", "a b", "a\tb"])
    def test_others_are_refused_where_there_are_sentinels(self, password: str) -> None:
        assert re.search(refused_by_sentinels(), password)


def refused_by_sentinels() -> str:
    tasks = yaml.safe_load((CHECKOUT / "roles" / "zeromq_redis" / "tasks" / "validate.yml").read_text())
    (task,) = [task for task in tasks if "__zeromq_redis_unkeepable" in task.get("vars", {})]
    return str(task["vars"]["__zeromq_redis_unkeepable"])


def _answers(client: "redis.Redis[Any]") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Configured(RedisServer):
    """A server that reads what the filter of the role writes."""

    def __init__(self, lines: list[list[object]], **how: Any) -> None:
        super().__init__(how.pop("program", "redis7"), **how)
        self.lines = lines

    def _command(self) -> list[str]:
        command = super()._command()
        lines = [["bind", self.host], ["port", self.port], ["dir", self.directory], ["save", ""], *self.lines]
        Path(command[-1]).write_text(stores.redis_config(lines) + "\n")
        return command


def test_consul_reads_a_text_of_its_configuration_as_it_is() -> None:
    """The role writes JSON, and no letter of a text in it has a meaning of its own."""
    written = {f"m{number}": password for number, password in enumerate(PASSWORDS)}
    with ConsulAgent(settings={"node_meta": written}) as agent:
        assert agent.client().agent.self()["Meta"].items() >= written.items()


PATHS = [password for password in PASSWORDS if "/" not in password and password == password.strip()]


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What systemd has read of a unit: option -> value as it prints it."""
    unit = {
        "Unit": {"DefaultDependencies": "no"},
        "Service": {
            "ExecStart": systemd.command(["/bin/echo", *PASSWORDS]),
            "ReadWritePaths": systemd.words(f"/p/{path}" for path in PATHS),
        },
    }
    identity = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="oz", dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o777)  # systemd's test mode refuses root
        for target in ("basic", "sysinit", "shutdown"):
            (place / f"{target}.target").write_text("[Unit]\nDescription=x\nDefaultDependencies=no\n")
        (place / "x.service").write_text(systemd.systemd_unit(unit) + "\n")
        done = subprocess.run(
            [*identity, "/lib/systemd/systemd", "--test", "--user", "--unit=x.service"],
            env={"PATH": os.environ["PATH"], "HOME": name, "XDG_RUNTIME_DIR": name, "SYSTEMD_UNIT_PATH": name},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    found = {}
    for line in done.stdout.splitlines():
        option, _, value = line.strip().partition(": ")
        if option == "Command Line" or (option == "ReadWritePaths" and "/p/" in value):
            found[option] = value
    assert len(found) == 2, done.stdout + done.stderr
    return found


class TestSystemd:
    """systemd as a user's manager in its test mode: it reads units, says what it has read, and starts nothing."""

    def test_words_of_a_command(self, said: dict[str, str]) -> None:
        read = [_unescaped(word) for word in re.findall(r'"(?:\\.|[^"\\])*"|[^\s"]+', said["Command Line"])]
        # What is left is $$ for $, which systemd takes for a variable only when it starts the command.
        assert read == ["/bin/echo", *(password.replace("$", "$$") for password in PASSWORDS)]

    def test_paths(self, said: dict[str, str]) -> None:
        assert said["ReadWritePaths"] == " ".join(f"/p/{path}" for path in PATHS)


def _unescaped(word: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"t": "\t"}.get(found[1], found[1]), word.removeprefix('"').removesuffix('"'))
