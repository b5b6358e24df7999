"""Ansible's modules: documented as they are, truthful in check mode, and right on real files and processes."""

import importlib
import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml
from ports import free_port

from .conftest import CHECKOUT, load

FILES = sorted((CHECKOUT / "library").glob("*.py"))
MODULES = {path.stem: load(path) for path in FILES}
IN_THE_PACKAGE = {
    "consul_catalog_info",
    "matchmaker_ring",
    "redis_matchmaker",
    "redis_matchmaker_info",
    "zmq_ipc_channels",
    "zmq_receiver_info",
    "zmq_rpc_ping",
}
"""Modules that are shells over the package, and run under the python that has it."""


@pytest.fixture(params=MODULES, ids=str)
def module(request):
    return MODULES[request.param]


def _undescribed(facts):
    """What is documented of an option, as a spec says it: suboptions are its options there."""
    said = {key: value for key, value in facts.items() if key not in ("description", "suboptions")}
    inner = {name: _undescribed(one) for name, one in facts.get("suboptions", {}).items()}
    return {**said, "options": inner} if inner else said


class TestDocumentation:
    def test_spec_is_what_is_documented(self, module):
        documented = yaml.safe_load(module.DOCUMENTATION)["options"]
        assert set(documented) == set(module.ARGUMENT_SPEC)
        for name, spec in module.ARGUMENT_SPEC.items():
            facts = {key: value for key, value in documented[name].items() if key != "description"}
            assert _undescribed(facts) == {key: value for key, value in spec.items() if key != "no_log"}, name

    def test_a_secret_is_never_logged(self, module):
        secrets = {name for name in module.ARGUMENT_SPEC if "password" in name or "token" in name}
        assert all(module.ARGUMENT_SPEC[name].get("no_log") is True for name in secrets)

    def test_every_option_and_return_value_is_described(self, module):
        documented = [*yaml.safe_load(module.DOCUMENTATION)["options"].values(), *yaml.safe_load(module.RETURN).values()]
        assert documented
        assert all(facts["description"] for facts in documented)

    def test_example_uses_the_module_with_options_it_has(self, module):
        name = yaml.safe_load(module.DOCUMENTATION)["module"]
        uses = [task[name] or {} for task in yaml.safe_load(module.EXAMPLES) if name in task]
        assert uses
        assert all(set(options) <= set(module.ARGUMENT_SPEC) for options in uses)


@pytest.fixture(scope="session")
def target():
    """What node_python says of the python that runs the tests."""
    return json.loads(subprocess.check_output([sys.executable, "-c", MODULES["node_python"].QUESTION]))


@pytest.fixture
def source(tmp_path):
    """A checkout that needs nothing but click, and that for one extra only."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "tiny"\nversion = "1"\n[project.optional-dependencies]\nmore = ["click"]\n'
        '[tool.setuptools]\npy-modules = ["tiny"]\n'
    )
    (source / "tiny.py").write_text("ANSWER = 42\n")
    return source


@pytest.fixture
def gather(run_module, source, tmp_path, target):
    def gather(answer=42, **arguments):
        (source / "tiny.py").write_text(f"ANSWER = {answer}\n")
        include = ["pyproject.toml", "tiny.py", "missing.txt"]
        shelf = str(tmp_path / "shelf")
        return run_module(
            MODULES["wheelhouse"], **{"source": str(source), "path": shelf, "include": include, "target": target, **arguments}
        )

    return gather


class TestWheelhouse:
    def test_archive_is_made_once_per_state_of_the_sources(self, gather, source):
        first = gather()
        assert first["changed"]
        assert Path(first["archive"]).is_file()
        again = gather()
        assert not again["changed"]
        assert again["sha256"] == first["sha256"]
        other = gather(43)
        assert other["changed"]
        assert other["sha256"] != first["sha256"]
        assert sorted(path.name for path in source.iterdir()) == ["pyproject.toml", "tiny.py"], "the checkout stays clean"

    def test_archive_holds_the_wheel_pip_and_what_the_extras_need(self, gather):
        assert [name.partition("-")[0] for name in gather()["wheels"]] == ["pip", "tiny"]
        assert {name.partition("-")[0] for name in gather(extras=["more"])["wheels"]} == {"click", "pip", "tiny"}

    def test_wheels_and_requirements_are_those_of_the_nodes_python_not_of_this_one(self, gather, target):
        other = {**target, "markers": {**target["markers"], "python_version": "3.13", "python_full_version": "3.13.5"}}
        wheels = gather(target=other, requirements=["msgpack", "tomli; python_version < '3.12'", "six; python_version >= '3.13'"])
        assert any("-cp313-" in name for name in wheels["wheels"] if name.startswith("msgpack-"))
        assert {name.partition("-")[0] for name in wheels["wheels"]} == {"msgpack", "pip", "six", "tiny"}

    def test_pythons_that_differ_in_the_patch_level_share_no_archive(self, gather, target):
        """A requirement may depend on it: redis needs async-timeout before 3.11.3 only."""

        def names(full):
            markers = {**target["markers"], "python_version": "3.11", "python_full_version": full}
            wheels = gather(target={**target, "markers": markers}, requirements=["six; python_full_version < '3.11.3'"])["wheels"]
            return {name.partition("-")[0] for name in wheels}

        assert names("3.11.7") == {"pip", "tiny"}
        assert names("3.11.2") == {"pip", "six", "tiny"}

    def test_a_node_without_glibc_is_refused(self, gather, target):
        assert "use a node with glibc" in gather(target={**target, "libc": ""})["msg"]

    def test_same_sources_give_the_same_bytes(self, gather):
        first = gather()
        Path(first["archive"]).unlink()
        assert gather()["sha256"] == first["sha256"]

    def test_check_mode_tells_and_writes_nothing(self, gather, tmp_path):
        told = gather(check=True)
        assert told["changed"]
        assert told["archive"] == ""
        assert not (tmp_path / "shelf").exists()

    def test_sources_that_do_not_build_fail_with_what_pip_says(self, gather, source):
        (source / "pyproject.toml").write_text("[project\n")  # cut short
        told = gather()
        assert told["failed"]
        assert "TOMLDecodeError" in told["msg"]

    def test_a_new_version_with_the_same_requirements_fetches_nothing(self, gather, source):
        first = gather(1, extras=["more"])
        project = source / "pyproject.toml"
        project.write_text(project.read_text().replace('version = "1"', 'version = "2"'))
        shelf = Path(first["archive"]).parents[1]
        before = {path.name: path.stat().st_mtime_ns for path in shelf.glob("requirements-*/*.whl")}
        second = gather(2, extras=["more"])
        assert {path.name: path.stat().st_mtime_ns for path in shelf.glob("requirements-*/*.whl")} == before != {}
        assert set(second["wheels"]) - set(first["wheels"]) == {"tiny-2-py3-none-any.whl"}
        project.write_text(project.read_text().replace("click", "click<8.2"))
        assert not any("click-8.2" in name for name in gather(3, extras=["more"])["wheels"]), "other requirements do"

    def test_missing_checkout_is_refused(self, gather, source):
        (source / "pyproject.toml").unlink()
        assert "source must be a checkout" in gather()["msg"]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """Where archives lie that more than one test installs from."""
    return tmp_path_factory.mktemp("shelf")


def closed_to_others(top):
    """Files that others may not read, directories that they may not enter, programs that they may not run."""
    modes = {path: path.stat().st_mode for path in (top, *top.rglob("*")) if not path.is_symlink()}
    return [path for path, mode in modes.items() if not mode & 0o004 or (mode & 0o100 and not mode & 0o001)]


class TestWheelVenv:
    @pytest.fixture
    def gather(self, gather, shelf):
        """Each archive once: it is what is done with them that is tested here."""
        return partial(gather, path=str(shelf))

    @pytest.fixture
    def hold(self, run_module, tmp_path):
        def hold(gathered=None, **arguments):
            archive = {"archive": gathered["archive"], "sha256": gathered["sha256"]} if gathered else {}
            asked = {"path": str(tmp_path / "venv"), "python": sys.executable, "requirements": ["tiny"], **archive, **arguments}
            return run_module(MODULES["wheel_venv"], **asked)

        return hold

    def answer(self, tmp_path):
        python = tmp_path / "venv" / "bin" / "python"
        return int(subprocess.check_output([python, "-c", "import tiny; print(tiny.ANSWER)"]))

    def test_the_first_release_is_in_use_at_once_the_next_when_it_is_made_so(self, hold, gather, tmp_path):
        one = gather(1)
        told = hold(one, check=True)
        assert told["changed"]
        assert (told["release"], told["active"]) == ("", "")
        assert not (tmp_path / "venv").exists()

        made = hold(one)
        assert made["changed"]
        assert made["release"] == made["active"]
        assert self.answer(tmp_path) == 1
        assert not hold(one)["changed"]

        two = gather(2)  # the same version, other bytes
        assert hold(two, check=True)["changed"]
        made = hold(two)
        assert made["changed"]
        assert made["release"] != made["active"]
        assert self.answer(tmp_path) == 1, "what runs is not touched"

        assert hold(two, state="active", check=True)["changed"]
        before = Path(made["marker"]).stat().st_mtime_ns
        assert hold(two, state="active")["changed"]
        assert self.answer(tmp_path) == 2
        assert Path(made["marker"]).stat().st_mtime_ns > before
        assert not hold(two, state="active")["changed"]

    def test_everybody_may_read_it_whatever_the_umask_is_and_again_when_somebody_closed_it(self, hold, gather, tmp_path):
        one = gather(1)
        before = os.umask(0o077)
        try:
            assert hold(one)["changed"]
            assert os.umask(0o077) == 0o077, "it is as it was"
            assert closed_to_others(tmp_path / "venv.releases") == []
            assert not hold(one)["changed"]

            subprocess.run(["chmod", "-R", "go-rwx", tmp_path / "venv.releases"], check=True)
            closed = closed_to_others(tmp_path / "venv.releases")
            assert closed
            assert hold(one, check=True)["changed"]
            assert closed_to_others(tmp_path / "venv.releases") == closed
            assert hold(one, state="active")["changed"]
            assert closed_to_others(tmp_path / "venv.releases") == []
            assert not hold(one, state="active")["changed"]
        finally:
            os.umask(before)

    def test_one_goes_back_to_the_release_before_once_and_forth_again(self, hold, gather, tmp_path):
        hold(gather(1))
        two = gather(2)
        hold(two, state="active")
        told = hold(two, state="previous", check=True)
        assert told["changed"]
        assert "tiny" in "".join(path.name for path in Path(told["previous"]).rglob("tiny*"))
        assert hold(two, state="previous")["changed"]
        assert self.answer(tmp_path) == 1
        again = hold(two, state="previous")
        assert again["previous"] == ""
        assert not again["changed"], "a rollback that was interrupted can be repeated"
        assert hold(two, state="active")["changed"]
        assert self.answer(tmp_path) == 2

    def test_what_did_not_change_is_copied_from_the_release_before(self, hold, gather, tmp_path):
        asked = {"requirements": ["tiny[more]", "supervisor"]}
        first = hold(gather(1, extras=["more"], requirements=["supervisor"]), **asked)
        assert first["copied"] == []
        second = hold(gather(2, extras=["more"], requirements=["supervisor"]), state="active", **asked)
        assert {name.partition("-")[0] for name in second["copied"]} >= {"click", "supervisor"}
        assert not any(name.startswith("tiny-") for name in second["copied"])
        assert self.answer(tmp_path) == 2
        old, new = Path(first["release"]), Path(second["release"])
        (packages,) = new.glob("lib/python*/site-packages")
        assert (packages / "click" / "core.py").stat().st_nlink == 1, "a copy: what happens to one release stays there"
        assert str(new) in (new / "bin" / "supervisord").read_text()
        assert str(old) not in (new / "bin" / "supervisord").read_text()
        subprocess.run([new / "bin" / "supervisord", "--version"], check=True, capture_output=True)

    def test_a_package_that_is_not_as_installed_is_not_copied(self, hold, gather):
        asked = {"requirements": ["tiny[more]"]}
        first = hold(gather(1, extras=["more"]), **asked)
        (module,) = Path(first["release"]).glob("lib/python*/site-packages/click/core.py")
        with module.open("a") as file:
            file.write("# mended by hand\n")
        second = hold(gather(2, extras=["more"]), **asked)
        assert second["copied"] == []
        (module,) = Path(second["release"]).glob("lib/python*/site-packages/click/core.py")
        assert "mended by hand" not in module.read_text()

    def test_without_a_release_before_there_is_no_way_back(self, hold, gather):
        one = gather(1)
        hold(one)
        assert "no previous release" in hold(one, state="previous")["msg"]

    def test_old_releases_go_but_none_that_is_or_was_in_use(self, hold, gather, tmp_path):
        for answer in range(1, 5):
            gathered = gather(answer)
            hold(gathered, state="active", keep=2)
        assert self.answer(tmp_path) == 4
        assert len([path for path in (tmp_path / "venv.releases").iterdir() if path.is_dir()]) == 2
        hold(gathered, state="previous")
        assert self.answer(tmp_path) == 3

    def test_all_of_it_is_removed(self, hold, gather, tmp_path):
        hold(gather(1))
        assert hold(state="absent", check=True)["changed"]
        assert hold(state="absent")["changed"]
        assert not hold(state="absent")["changed"]
        assert not list(tmp_path.glob("venv*"))
        assert not list(tmp_path.glob(".venv*")), "the lock goes with the releases"

    def test_interrupted_install_is_repeated(self, hold, gather, tmp_path):
        one = gather(1)
        release = Path(hold(one)["release"])
        (release / ".installed.json").unlink()
        (release / "bin" / "python").unlink()
        assert hold(one)["changed"]
        assert self.answer(tmp_path) == 1

    def test_an_environment_of_another_make_is_not_touched(self, hold, gather, tmp_path):
        (tmp_path / "venv").mkdir()
        assert "environment of another make" in hold(gather(1))["msg"]

    def test_install_that_fails_is_not_in_use_and_says_why(self, hold, tmp_path):
        told = hold({"archive": str(tmp_path / "no.tar"), "sha256": "0"})
        assert told["failed"]
        assert "no.tar" in told["msg"]
        assert not (tmp_path / "venv").exists()


class TestNodePrecheck:
    @pytest.fixture
    def ask(self, run_module, tmp_path):
        def ask(**arguments):
            inputs = {
                "python": sys.executable,
                "ipc_dir": str(tmp_path / "run"),
                "ipc_dir_max": 500,
                "bind_address": "127.0.0.1",
                "port": free_port(["127.0.0.1"]),
                "manager": "supervisor",
                "config_file": str(tmp_path / "zeromq.conf"),
            }
            return run_module(MODULES["node_precheck"], **{**inputs, **arguments})

        return ask

    def test_good_node_passes(self, ask):
        assert not ask().get("failed")

    @pytest.mark.parametrize("address", ["127.0.0.1", "*"])
    def test_port_of_a_foreign_process_is_refused_with_its_name(self, ask, address):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            told = ask(bind_address=address, port=taken.getsockname()[1])
        assert f"process {os.getpid()} (" in told["msg"]
        assert "or set zeromq_receiver_port" in told["msg"]

    def test_port_of_the_nodes_own_receiver_is_fine(self, ask, tmp_path):
        config = tmp_path / "zeromq.conf"
        script = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", script, "--config-file", config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as receiver:
            port = int(receiver.stdout.readline())
            assert not ask(port=port).get("failed")
            assert ask(port=port, config_file="/another/zeromq.conf")["failed"]
            receiver.communicate("\n")

    def test_address_of_another_machine_is_refused(self, ask):
        assert "use an address of this machine" in ask(bind_address="192.0.2.1")["msg"]

    def test_directory_that_is_a_file_is_refused(self, ask, tmp_path):
        (tmp_path / "file").write_text("")
        assert "is no directory; remove it" in ask(ipc_dir=str(tmp_path / "file"))["msg"]
        assert "is no directory; remove it" in ask(directories=[str(tmp_path / "file" / "below")])["msg"]

    def test_long_directory_of_sockets_is_refused(self, ask):
        assert "-e zeromq_local_root=/short/dir" in ask(ipc_dir_max=10)["msg"]

    @pytest.mark.parametrize("python", ["/nowhere/python3", "/bin/true"])
    def test_wrong_interpreter_is_refused(self, ask, python):
        assert "set zeromq_receiver_python" in ask(python=python)["msg"]

    def test_old_interpreter_is_refused(self, ask, tmp_path):
        old = tmp_path / "python"
        old.write_text("#!/bin/sh\necho 3.9\n")
        old.chmod(0o755)
        assert "is version 3.9, too old" in ask(python=str(old))["msg"]

    def test_system_without_glibc_is_refused(self, ask, monkeypatch):
        monkeypatch.setattr(MODULES["node_precheck"].os, "confstr", lambda _name: None)
        assert "use Debian 12 or 13, or another Linux with glibc" in ask()["msg"]

    def test_where_systemd_does_not_run_supervisor_is_the_remedy(self, ask):
        told = ask(manager="systemd")["msg"]
        assert told == "zeromq_receiver_manager systemd: systemd does not run here; set zeromq_receiver_manager: supervisor"

    @pytest.mark.parametrize(
        ("text", "wanted", "told"),
        [
            ("zmq_security = none", "curve", "none -> curve"),
            ("zmq_security = none", "none", ""),
            ("zmq_security = none", None, ""),
            ("", "none", "curve -> none"),
            ("", "curve", ""),
            ("zmq_security = curve\nzmq_security = none", "curve", "none -> curve"),
        ],
    )
    def test_change_of_security_is_told_where_a_configuration_is(self, ask, tmp_path, text, wanted, told):
        config = tmp_path / "zeromq.conf"
        assert ask(package=sys.prefix, security=wanted)["security_change"] == "", "nothing is here yet"
        config.write_text(f"[oslo_messaging_zmq]\nrpc_zmq_ipc_dir = {tmp_path}\n{text}\n")
        asked = {"package": sys.prefix, "matchmaker_config": str(tmp_path / "matchmaker.conf"), "security": wanted}
        before = sorted(tmp_path.iterdir())
        assert ask(**asked)["security_change"] == told
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        ("text", "wanted", "told"),
        [
            ("rpc_zmq_matchmaker = redis", "ring", "redis -> ring"),
            ("", "consul", "ring -> consul"),
            ("", "ring", ""),
            ("rpc_zmq_matchmaker = redis", "sentinel", ""),
            ("rpc_zmq_matchmaker = redis", None, ""),
        ],
    )
    def test_change_of_the_matchmaker_is_told(self, ask, tmp_path, text, wanted, told):
        (tmp_path / "zeromq.conf").write_text(f"[oslo_messaging_zmq]\nrpc_zmq_ipc_dir = {tmp_path}\n{text}\n")
        answer = ask(package=sys.prefix, matchmaker=wanted)
        assert (answer["matchmaker_change"], answer["topics"]) == (told, [])

    def test_the_matchmakers_configuration_is_read_last(self, ask, tmp_path):
        (tmp_path / "zeromq.conf").write_text(f"[oslo_messaging_zmq]\nrpc_zmq_ipc_dir = {tmp_path}\nzmq_security = curve\n")
        last = tmp_path / "matchmaker.conf"
        last.write_text("[oslo_messaging_zmq]\nzmq_security = none\n")
        told = ask(package=sys.prefix, matchmaker_config=str(last), security="curve")
        assert told["security_change"] == "none -> curve"

    def test_change_of_security_that_cannot_be_seen_refuses_nothing(self, ask, tmp_path):
        config = tmp_path / "zeromq.conf"
        config.write_text("[oslo_messaging_zmq]\nzmq_security = none\n")
        assert ask(package=str(tmp_path / "nowhere"), security="curve")["security_change"] == ""
        config.write_text("[oslo_messaging_zmq]\nzmq_security = maybe\n")
        assert ask(package=sys.prefix, security="curve")["security_change"] == ""
        warnings = []
        assert MODULES["node_precheck"].present(sys.prefix, [str(config)], warnings.append) == {}
        assert f"{sys.prefix} cannot tell what this node is, so changes of zmq_security and matchmaker are not" in warnings[0]
        assert "found 'maybe'" in warnings[0]

    def test_every_problem_is_told_at_once(self, ask):
        assert len(ask(python="/nowhere/python3", ipc_dir_max=10)["msg"].splitlines()) == 2


def test_modules_need_nothing_but_ansible_unless_they_run_in_the_packages_environment():
    for name, module in MODULES.items():
        needs = {root.partition(".")[0] for root in vars(module) if isinstance(vars(module)[root], type(importlib))}
        assert name in IN_THE_PACKAGE or needs.isdisjoint({"openstack_zeromq", "supervisor"})
