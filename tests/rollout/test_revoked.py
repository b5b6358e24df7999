"""Revoked nodes are left out of every playbook that would bring them back, and the operator reads what to do."""

import re

import pytest
import yaml

from openstack_zeromq.security import keys, trust

from .conftest import CHECKOUT

PLAYBOOKS = CHECKOUT / "playbooks"
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
BRING_BACK = ("deploy", "roll", "services", "rotate_keys", "upgrade", "rollback", "verify", "precheck")


@pytest.fixture
def run(playbook, tmp_path):
    """Run playbooks/revoked.yml on three nodes, of which n1 and n2 refuse n3's key, then a play on the hosts of roll.yml.

    Return what was printed, and the hosts of that play.
    """
    key = keys.new().public
    for name in ("n1", "n2"):
        (tmp_path / name).mkdir()
        trust.write_revoked(tmp_path / name / "authorized", {"n3": (key,), "gone": (keys.new().public,)})
    facts = {**LOCAL, "zeromq_receiver_keys_dir": f"{tmp_path}/{{{{ inventory_hostname }}}}"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"zeromq": {"hosts": {f"n{i}": {} for i in (1, 2, 3)}, "vars": facts}}))
    (roll,) = yaml.safe_load((PLAYBOOKS / "roll.yml").read_text())
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "plays {{ ansible_play_hosts | join(' ') }}"}, "run_once": True}
    play = {"hosts": roll["hosts"], "gather_facts": False, "tasks": [show]}
    plays = [{"ansible.builtin.import_playbook": str(PLAYBOOKS / "revoked.yml")}, play]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))

    def run(*arguments):
        done = playbook("--inventory", tmp_path / "hosts.yml", tmp_path / "play.yml", *arguments)
        said = " ".join(done.stdout.split())
        assert done.returncode == 0, done.stdout + done.stderr
        assert not re.search("changed=[1-9]", said), said
        (played,) = re.findall(r"plays ((?:n\d ?)+)", said)
        return said, played.split()

    return run


@pytest.mark.parametrize("arguments", [(), ("--check",), ("--limit", "n1")], ids=["", "check", "limit"])
def test_a_revoked_node_is_left_out_and_the_operator_reads_what_to_do(run, arguments):
    said, played = run(*arguments)
    assert "n3" not in played
    assert "REVOKED, AND LEFT OUT: n3. Take it out of the inventory." in said
    assert "run playbooks/scale_out.yml -e zeromq_new_nodes=n3." in said
    assert "run site.yml -e zeromq_readmitted_nodes=n3" in said


@pytest.mark.parametrize("name", ["zeromq_readmitted_nodes", "zeromq_new_nodes"])
def test_a_node_that_the_operator_names_takes_part(run, name):
    said, played = run("-e", f"{name}=n3")
    assert played == ["n1", "n2", "n3"]
    assert "REVOKED" not in said


def test_a_list_that_cannot_be_read_is_an_error(playbook, tmp_path):
    """A link that leads to itself: root cannot read that either."""
    (tmp_path / "revoked").symlink_to("revoked")
    facts = {**LOCAL, "zeromq_receiver_keys_dir": str(tmp_path)}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"zeromq": {"hosts": {"n1": facts}}}))
    done = playbook("--inventory", tmp_path / "hosts.yml", "playbooks/revoked.yml")
    assert done.returncode != 0, done.stdout
    assert "Unable to slurp file" in done.stdout, done.stdout


@pytest.mark.parametrize("name", ["site", "scale_out", "redeploy", "rotate_keys", "upgrade", "restart", "rollback"])
def test_every_playbook_that_would_bring_it_back_leaves_it_out_first(name):
    file = CHECKOUT / "site.yml" if name == "site" else PLAYBOOKS / f"{name}.yml"
    first, *others = yaml.safe_load(file.read_text())
    assert first["ansible.builtin.import_playbook"].endswith("revoked.yml")
    assert "zeromq" not in [play.get("hosts") for play in others]


@pytest.mark.parametrize("name", BRING_BACK)
def test_no_play_takes_all_of_the_group(name):
    plays = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text())
    assert all("!zeromq_leaving" in play["hosts"] for play in plays if "hosts" in play)


@pytest.mark.parametrize(("name", "line"), [("revoke", "REVOKED: {{"), ("remove_node", "REMOVED: {{")])
def test_revoke_and_remove_node_end_with_the_next_step(name, line):
    last = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text())[-1]["tasks"][-1]
    assert last["ansible.builtin.debug"]["msg"].startswith(line)
    assert "NEXT: take it out of the inventory" in last["ansible.builtin.debug"]["msg"]
