"""Ansible's modules: documented as they are, truthful in check mode, and right on real files and processes."""

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


class TestDocumentation:
    def test_spec_is_what_is_documented(self, module):
        documented = yaml.safe_load(module.DOCUMENTATION)["options"]
        assert set(documented) == set(module.ARGUMENT_SPEC)
        for name, spec in module.ARGUMENT_SPEC.items():
            facts = {key: value for key, value in documented[name].items() if key != "description"}
            assert facts == {key: value for key, value in spec.items() if key != "no_log"}, name

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


class TestWheelhouse:
    @pytest.fixture
    def source(self, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        (source / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            '[project]\nname = "tiny"\nversion = "1"\n[tool.setuptools]\npy-modules = ["tiny"]\n'
        )
        (source / "tiny.py").write_text("ANSWER = 42\n")
        return source

    @pytest.fixture
    def build(self, run_module, source, tmp_path):
        def build(**arguments):
            include = ["pyproject.toml", "tiny.py", "missing.txt"]
            return run_module(
                MODULES["wheelhouse"], source=str(source), path=str(tmp_path / "shelf"), include=include, **arguments
            )

        return build

    def test_wheel_is_built_once_per_state_of_the_sources(self, build, source):
        first = build()
        assert first["changed"]
        assert Path(first["wheel"]).is_file()
        again = build()
        assert not again["changed"]
        assert again["sha256"] == first["sha256"]
        (source / "tiny.py").write_text("ANSWER = 43\n")
        other = build()
        assert other["changed"]
        assert other["sha256"] != first["sha256"]
        assert sorted(path.name for path in source.iterdir()) == ["pyproject.toml", "tiny.py"], "the checkout stays clean"

    def test_same_sources_give_the_same_bytes(self, build):
        first = build()
        Path(first["wheel"]).unlink()
        assert build()["sha256"] == first["sha256"]

    def test_check_mode_tells_and_writes_nothing(self, build, tmp_path):
        told = build(check=True)
        assert told["changed"]
        assert told["wheel"] == ""
        assert not (tmp_path / "shelf").exists()

    def test_sources_that_do_not_build_fail_with_what_pip_says(self, build, source):
        (source / "pyproject.toml").write_text("[project\n")  # cut short
        told = build()
        assert told["failed"]
        assert "TOMLDecodeError" in told["msg"]

    def test_missing_checkout_is_refused(self, build, source):
        (source / "pyproject.toml").unlink()
        assert "source must be a checkout" in build()["msg"]


class TestWheelVenv:
    @pytest.fixture
    def wheel(self, run_module, tmp_path):
        source = tmp_path / "source"
        source.mkdir()
        (source / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            '[project]\nname = "tiny"\nversion = "1"\n[tool.setuptools]\npy-modules = ["tiny"]\n'
        )

        def wheel(answer):
            (source / "tiny.py").write_text(f"ANSWER = {answer}\n")
            return run_module(
                MODULES["wheelhouse"],
                source=str(source),
                path=str(tmp_path / "shelf"),
                include=["pyproject.toml", "tiny.py"],
            )

        return wheel

    @pytest.fixture
    def hold(self, run_module, tmp_path):
        def hold(built=None, **arguments):
            wheel = {"wheel": built["wheel"], "sha256": built["sha256"]} if built else {}
            return run_module(MODULES["wheel_venv"], path=str(tmp_path / "venv"), python=sys.executable, **wheel, **arguments)

        return hold

    def answer(self, tmp_path):
        python = tmp_path / "venv" / "bin" / "python"
        return int(subprocess.check_output([python, "-c", "import tiny; print(tiny.ANSWER)"]))

    def test_wheel_is_installed_once_replaced_and_removed(self, hold, wheel, tmp_path):
        one = wheel(1)
        told = hold(one, check=True)
        assert told["changed"]
        assert not told["usable"]
        assert not (tmp_path / "venv").exists()

        assert hold(one)["changed"]
        assert self.answer(tmp_path) == 1
        assert not hold(one)["changed"]

        two = wheel(2)  # the same version, other bytes
        assert hold(two, check=True)["changed"]
        assert hold(two)["changed"]
        assert self.answer(tmp_path) == 2

        assert hold(state="absent")["changed"]
        assert not hold(state="absent")["changed"]
        assert not list(tmp_path.glob(".venv*")), "the lock goes with the environment"

    def test_interrupted_install_is_repeated(self, hold, wheel, tmp_path):
        one = wheel(1)
        marker = Path(hold(one)["marker"])
        marker.unlink()
        (tmp_path / "venv" / "bin" / "python").unlink()
        assert hold(one)["changed"]
        assert self.answer(tmp_path) == 1

    def test_install_that_fails_leaves_no_marker_and_says_why(self, hold, tmp_path):
        told = hold({"wheel": str(tmp_path / "no.whl"), "sha256": "0"})
        assert told["failed"]
        assert "no.whl" in told["msg"]
        assert not (tmp_path / "venv" / ".installed.json").exists()


class TestNodePrecheck:
    @pytest.fixture
    def ask(self, run_module, tmp_path):
        def ask(**arguments):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            inputs = {
                "python": sys.executable,
                "ipc_dir": str(tmp_path / "run"),
                "ipc_dir_max": 500,
                "bind_address": "127.0.0.1",
                "port": port,
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

    def test_every_problem_is_told_at_once(self, ask):
        assert len(ask(python="/nowhere/python3", ipc_dir_max=10)["msg"].splitlines()) == 2


def test_modules_need_nothing_but_ansible_unless_they_run_in_the_packages_environment():
    for name, module in MODULES.items():
        needs = {root.partition(".")[0] for root in vars(module) if isinstance(vars(module)[root], type(importlib))}
        assert name in IN_THE_PACKAGE or needs.isdisjoint({"openstack_zeromq", "supervisor"})
