"""A machine that does not answer is tried once, and then left out."""

import pytest
import yaml
from ports import free_port


@pytest.fixture
def dead(tmp_path):
    """Return an inventory of one node that refuses ssh."""
    facts = {"ansible_host": "127.0.0.1", "ansible_port": free_port(["127.0.0.1"]), "ansible_connection": "ssh"}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"zeromq": {"hosts": {"dead": facts}}}))
    return inventory


def test_destroy_tries_a_dead_machine_once_and_says_what_is_left_to_do(playbook, dead):
    done = playbook("--inventory", dead, "playbooks/destroy.yml", "-e", "zeromq_destroy_hosts=dead")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("UNREACHABLE!") == 1, done.stdout
    assert "dead does not answer, so nothing is taken away from it" in " ".join(done.stdout.split())
