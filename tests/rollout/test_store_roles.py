"""Roles zeromq_redis and zeromq_consul refuse inputs that their servers could not keep, before anything is written."""

import json
import sys

import pytest
import yaml


@pytest.fixture
def validate(playbook, tmp_path):
    """Run phase validate of a role for three hosts; returns what was said."""

    def run(role, **variables):
        hosts = {f"n{n}": {"ansible_host": f"127.0.0.{70 + n}"} for n in (1, 2, 3)}
        groups = {name: {"hosts": {host: {} for host in hosts}} for name in ("zeromq", "zeromq_redis", "zeromq_sentinel")}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}, **groups}))
        task = {"name": "validate", "ansible.builtin.import_role": {"name": role, "tasks_from": "validate"}}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "n1", "gather_facts": False, "tasks": [task]}]))
        values = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
        done = playbook("-i", tmp_path / "hosts.yml", "-e", json.dumps(values), tmp_path / "play.yml")
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


@pytest.mark.parametrize("password", ["a b", "it's", 'say "x"'])
def test_a_password_that_a_sentinel_could_not_read_again_is_refused(validate, password):
    returncode, said = validate("zeromq_redis", zeromq_redis_password=password, zeromq_matchmaker_backend="sentinel")
    assert returncode != 0
    assert "zeromq_redis_password and zeromq_redis_sentinel_password: has a blank or a quote, with which a Sentinel" in said
    assert password not in said.replace("a blank", "")


@pytest.mark.parametrize("backend", ["redis", "sentinel"])
def test_other_passwords_are_fine(validate, backend):
    password = "a#$%;\\'\" é" if backend == "redis" else "a#$%;\\é"
    returncode, said = validate("zeromq_redis", zeromq_redis_password=password, zeromq_matchmaker_backend=backend)
    assert returncode == 0, said


def test_a_token_that_no_header_can_carry_is_refused(validate):
    returncode, said = validate("zeromq_consul", zeromq_consul_token="a b", zeromq_consul_join=["127.0.0.1"])
    assert returncode != 0
    assert "zeromq_consul_token has ASCII letters without blanks" in said
