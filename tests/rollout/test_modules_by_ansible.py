"""The package's modules and filters as Ansible itself runs them: packed, on a host, in check mode and for real."""

import json
import subprocess
import sys

import pytest
import yaml

TOLD_THEIR_PYTHON = {
    "matchmaker_ring",
    "redis_matchmaker",
    "zmq_authorized_keys",
    "zmq_curve_keypair",
    "zmq_receiver_info",
    "zmq_rpc_ping",
}
TASKS = """
- name: The ring is published
  matchmaker_ring:
    path: "{{ place }}/ring.json"
    state: exact
    topics: {compute: [c1, c2]}
    hosts: {c1: {address: 192.0.2.1, port: 9501}}
- name: One more serves it
  matchmaker_ring:
    path: "{{ place }}/ring.json"
    topics: {compute: [c3]}
  register: more
- name: Ask the receiver
  zmq_receiver_info:
    ipc_dir: "{{ ipc_dir }}"
  register: node
- name: Who consumes what?
  zmq_ipc_channels:
    ipc_dir: "{{ ipc_dir }}"
  register: here
- name: Call somebody who is not there
  zmq_rpc_ping:
    topic: nothing
    timeout: 1
    config_files: ["{{ config_file }}"]
  register: call
  failed_when: "'the matchmaker knows no host of nothing' not in call.msg"
- name: This node has a key
  zmq_curve_keypair:
    path: "{{ place }}/keys/node.key"
    host: n1
    state: next
  register: key
- name: It trusts itself
  zmq_authorized_keys:
    path: "{{ place }}/keys/authorized"
    keys: {n1: "{{ key.public_keys }}"}
    hosts: [n1, n2]
  register: trusted
- name: Both tell what they did
  ansible.builtin.assert:
    that:
      - key.steps == ['make a key', 'make the next key']
      - key.public_keys | length == (0 if ansible_check_mode else 2)
      - trusted.written == ([] if ansible_check_mode else ['n1'])
      - "'n2' in trusted.unknown"
- name: Consul is away
  consul_catalog_info:
    url: http://127.0.0.1:1
    topics: [compute]
  register: consul
  failed_when: "'Connection refused' not in consul.msg"
- name: Redis is away
  redis_matchmaker_info:
    url: "{{ {'store': 'redis', 'hosts': ['127.0.0.1'], 'port': 1, 'password': 'very@secret'} | zeromq_transport_url }}"
  register: redis
  failed_when: "'connection is refused' not in redis.msg"
- name: Redis is still away
  redis_matchmaker:
    host: 127.0.0.1
    port: 1
    password: very@secret
    topics: {compute: [c1]}
  register: office
  failed_when: "'connection is refused' not in office.msg"
- name: All is as it should be
  ansible.builtin.assert:
    that:
      - node.receiver.node == 'n1'
      - here.stray == []
      - (ring | zeromq_ring_diff(more.topics)).compute.added == ['c3']
  vars:
    ring: {compute: [c1, c2]}
"""


def test_a_module_that_is_told_its_python_runs_under_it_whatever_the_command_line_says(make_fabric, playbook, tmp_path):
    """An extra variable beats what a task says of `ansible_python_interpreter`."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    tasks = yaml.safe_load(TASKS.replace("very@secret", "x"))
    modules = [(name, task) for task in tasks for name in task if isinstance(task[name], dict) and name in TOLD_THEIR_PYTHON]
    assert {name for name, _ in modules} == TOLD_THEIR_PYTHON
    fabric = make_fabric(nodes=1)
    for name, task in modules:
        task[name]["python"] = sys.executable
    play = [{"name": "Try", "hosts": "localhost", "tasks": [task for _, task in modules]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    variables = {
        "place": str(tmp_path),
        "ipc_dir": str(fabric.ipc_dir("n1")),
        "config_file": str(fabric.config_file("n1")),
        "ansible_python_interpreter": str(bare / "bin" / "python"),
        "ansible_connection": "local",
    }
    done = playbook(tmp_path / "play.yml", "-i", "localhost,", "-e", json.dumps(variables))
    assert done.returncode == 0, done.stdout + done.stderr
    play[0]["tasks"][0]["matchmaker_ring"]["python"] = str(tmp_path / "none")
    (tmp_path / "play.yml").write_text(json.dumps(play))
    done = playbook(tmp_path / "play.yml", "-i", "localhost,", "-e", json.dumps(variables))
    assert f"there is no {tmp_path}/none" in done.stdout + done.stderr


@pytest.mark.parametrize("check", [["--check", "--diff"], ["--diff"]], ids=["check", "real"])
def test_every_module_of_the_package_runs_under_ansible(make_fabric, playbook, tmp_path, check):
    fabric = make_fabric(nodes=1)
    play = [{"name": "Try", "hosts": "localhost", "tasks": yaml.safe_load(TASKS)}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    variables = {
        "place": str(tmp_path),
        "ipc_dir": str(fabric.ipc_dir("n1")),
        "config_file": str(fabric.config_file("n1")),
        "ansible_python_interpreter": sys.executable,
        "ansible_connection": "local",
    }
    done = playbook(tmp_path / "play.yml", "-i", "localhost,", *check, "-e", json.dumps(variables))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "c1" in done.stdout
    assert "very@secret" not in done.stdout
    assert (tmp_path / "ring.json").exists() == (check == ["--diff"])
    secrets = [line for path in tmp_path.glob("keys/node.key*") for line in path.read_text().splitlines() if line[:2] != "# "]
    assert len(secrets) == (2 if check == ["--diff"] else 0)
    assert not any(secret in done.stdout + done.stderr for secret in secrets)
