"""tools/lab.py without containers: its nodes are those of inventories/lab, networks do not collide, old images are replaced."""

import argparse
import ipaddress
import json
import subprocess
import sys

import pytest

from .conftest import CHECKOUT, load


@pytest.fixture(scope="module")
def lab():
    """The tool as a module; it stands beside tools/stores.py, which it imports."""
    sys.path.insert(0, str(CHECKOUT / "tools"))
    try:
        yield load(CHECKOUT / "tools" / "lab.py")
    finally:
        sys.path.remove(str(CHECKOUT / "tools"))


@pytest.fixture
def nodes(lab):
    return lab.nodes_of(ipaddress.ip_network(lab.SUBNET), lab.layout(lab.LAYOUT))


def inventory(*paths):
    """What Ansible makes of inventories, host by host."""
    named = [word for path in paths for word in ("--inventory", str(path))]
    listed = subprocess.run(
        [sys.executable, "-m", "ansible", "inventory", *named, "--list"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return json.loads(listed.stdout)


def test_inventory_of_the_lab_has_the_nodes_that_the_tool_makes(lab, nodes):
    hosts = inventory(CHECKOUT / "inventories" / "lab")
    assert {name: facts["ansible_host"] for name, facts in hosts["_meta"]["hostvars"].items()} == {
        node.name: node.address for node in nodes
    }
    assert hosts["zeromq"]["hosts"] == [node.name for node in nodes]


def test_inventory_of_the_lab_reaches_nodes_as_the_tools_own_inventory_does(lab, nodes, tmp_path):
    (tmp_path / "hosts.yml").write_text(lab.inventory(str(tmp_path), nodes))
    written = inventory(tmp_path / "hosts.yml")["_meta"]["hostvars"]["node4"]
    static = inventory(CHECKOUT / "inventories" / "lab")["_meta"]["hostvars"]["node4"]
    assert written.pop("debian") == "13"
    assert all(name.startswith("ansible_") for name in written)
    written["ansible_ssh_common_args"] = written["ansible_ssh_common_args"].replace(str(tmp_path), "{{ lab_folder }}")
    assert {name: static[name] for name in written} == written


def test_layout_repeats_its_last_release(lab):
    assert lab.layout("12,13") == ["12", "13"]
    assert lab.layout("12,13", 4) == ["12", "13", "13", "13"]
    assert lab.layout("12,13,13", 1) == ["12"]


@pytest.mark.parametrize(
    ("debian", "nodes", "words"), [("11", None, "no image of Debian 11"), ("12", 0, "1 to 200"), ("12", 201, "1 to 200")]
)
def test_layout_that_cannot_be_made_is_refused(lab, debian, nodes, words):
    with pytest.raises(lab.LabError, match=words):
        lab.layout(debian, nodes)


@pytest.mark.parametrize("text", ["10.0.0.0/25", "10.0.0.1/24", "fd00::/64", "here"])
def test_subnet_that_is_too_small_or_none_is_refused(lab, text):
    with pytest.raises(argparse.ArgumentTypeError):
        lab.subnet(text)


@pytest.mark.parametrize("text", ["", "Lab", "-lab", "1", "a/b", "a" * 32])
def test_name_that_no_container_could_have_is_refused(lab, text):
    with pytest.raises(argparse.ArgumentTypeError, match="a to z"):
        lab.lab_name(text)


def test_labs_of_different_names_get_different_networks_and_leave_the_default_ones_alone(lab):
    taken = []
    for index in range(255):
        taken.append(lab.choose_subnet(f"lab{index}", taken))
    assert len(set(taken)) == 255
    assert ipaddress.ip_network(lab.SUBNET) not in taken
    with pytest.raises(lab.LabError, match="--subnet"):
        lab.choose_subnet("one-more", taken)


def test_network_that_something_else_uses_is_refused_with_the_remedy(lab):
    wanted = ipaddress.ip_network("10.217.91.0/24")
    assert lab.choose_subnet("lab", [], wanted) == wanted
    with pytest.raises(lab.LabError, match=r"10\.0\.0\.0/8.*--subnet"):
        lab.choose_subnet("lab", [ipaddress.ip_network("10.0.0.0/8")], wanted)


def test_networks_of_this_machine_are_known(lab):
    assert ipaddress.ip_network("0.0.0.0/0") not in lab.routes()


def test_image_is_made_again_when_its_recipe_changes(lab, monkeypatch):
    before = lab.recipe_key("12")
    assert before == lab.recipe_key("12") != lab.recipe_key("13")
    monkeypatch.setattr(lab, "PACKAGES", (*lab.PACKAGES, "one-more"))
    assert lab.recipe_key("12") != before


def test_recipe_names_no_mirror_and_the_command_has_the_machines_own(lab, tmp_path):
    settings = {"Acquire::http::Proxy": "http://proxy:1"}
    command = lab.mmdebstrap("13", str(tmp_path / "image.tar"), "http://mirror/debian", settings)
    assert command[-3:] == ["trixie", str(tmp_path / "image.tar"), "http://mirror/debian"]
    assert '--aptopt=Acquire::http::Proxy "http://proxy:1"' in command
    assert "://" not in (CHECKOUT / "tools" / "lab.py").read_text()


def test_lab_of_another_checkout_is_left_alone(lab):
    mine = {"Config": {"Labels": {f"{lab.LABEL}.checkout": lab.CHECKOUT}}}
    lab.refuse_anothers("lab", [mine, mine])
    with pytest.raises(lab.LabError, match=r"belongs to /elsewhere.*--name"):
        lab.refuse_anothers("lab", [mine, {"Config": {"Labels": {f"{lab.LABEL}.checkout": "/elsewhere"}}}])


def test_whoever_is_not_root_or_lacks_podman_is_told_in_one_line(lab, monkeypatch):
    monkeypatch.setattr(lab.os, "geteuid", lambda: 1000)
    with pytest.raises(lab.LabError, match="sudo make lab"):
        lab.refuse_without_means()
    monkeypatch.setattr(lab.os, "geteuid", lambda: 0)
    monkeypatch.setattr(lab, "PROGRAMS", {"sh": "dash", "no-such-podman": "podman", "no-such-runc": "runc"})
    with pytest.raises(lab.LabError, match="apt-get install --yes podman runc"):
        lab.refuse_without_means()


def test_ssh_knows_every_node_before_the_first_connection(lab, nodes):
    config = lab.ssh_config("/place", nodes)
    assert "StrictHostKeyChecking yes" in config
    for node in nodes:
        assert f"Host {node.name} {node.address}\n" in config
    assert lab.hosts_file(nodes).splitlines()[-1] == f"{nodes[-1].address}\t{nodes[-1].name}"


def test_a_lab_can_have_the_names_of_another_inventory(lab):
    names = lab.host_names("controller1.example.com,compute01.example.com")
    made = lab.nodes_of(ipaddress.ip_network("10.0.0.0/24"), lab.layout("12", len(names)), names)
    assert [(node.name, node.address) for node in made] == [(names[0], "10.0.0.11"), (names[1], "10.0.0.12")]
    assert "10.0.0.12\tcompute01.example.com compute01\n" in lab.hosts_file(made)


@pytest.mark.parametrize("text", ["", "Node_1", "a,b c", "a,a"])
def test_names_that_no_host_could_have_are_refused(lab, text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"no name of a host|the same name"):
        lab.host_names(text)


def test_machines_keep_their_hardware_address_over_a_reboot(lab, nodes):
    addresses = [lab.hardware_address(node) for node in nodes]
    assert addresses[0] == "02:00:0a:d9:5b:0b"
    assert len(set(addresses)) == len(nodes)
