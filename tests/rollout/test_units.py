"""The systemd units that the roles write: systemd understands every line, and no daemon may do more than it must.

One playbook renders them all, as role zeromq_daemon does, from what each role hands to it.
"""

import os
import re
import subprocess
import sys

import pytest
import yaml

from .conftest import CHECKOUT, load

systemd = load(CHECKOUT / "filter_plugins" / "systemd.py")

MOST_EXPOSED = {"openstack-zeromq-ring-sync": 2.5, "openstack-zeromq-socketed": 2.0}
"""On the scale of `systemd-analyze security`, 10 being wide open. The one that keeps a ring keeps its owner, too: as root."""
BAR = 1.5

PLAIN = {
    "zeromq_daemon_name": "openstack-zeromq-plain",
    "zeromq_daemon_description": "no wishes",
    "zeromq_daemon_command": ["/bin/true"],
    "zeromq_daemon_user": "daemon",
}
SOCKETED = {
    **PLAIN,
    "zeromq_daemon_name": "openstack-zeromq-socketed",
    "zeromq_daemon_socket": {"ListenStream": ["127.0.0.1:9501", "[::1]:9501"], "Backlog": 100},
    "zeromq_daemon_service": {"ReadWritePaths": "/var/log", "LimitNOFILE": 65536, "PrivateTmp": False, "RemoveIPC": []},
    "zeromq_daemon_unit": {"ConditionPathExists": "/etc/hostname"},
}


def handed_over():
    """(role, vars) of each task that hands a daemon to role zeromq_daemon."""
    for path in sorted((CHECKOUT / "roles").glob("*/tasks/configure*.yml")):
        for task in yaml.safe_load(path.read_text(encoding="utf-8")):
            if task.get("ansible.builtin.import_role", {}).get("name") == "zeromq_daemon":
                yield path.parents[1], task["vars"]


def tasks(role, inputs):
    known = [role / part / "main.yml" for part in ("defaults", "vars")] if role else []
    return [
        *({"ansible.builtin.include_vars": {"file": str(path)}} for path in known),
        {"ansible.builtin.import_role": {"name": "zeromq_daemon", "tasks_from": "configure"}, "vars": inputs},
    ]


@pytest.fixture(scope="session")
def units(tmp_path_factory):
    """Where systemd finds the units of all our daemons."""
    place = tmp_path_factory.mktemp("units")
    daemons = [(None, PLAIN), (None, SOCKETED), *handed_over()]
    plays = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "tasks": tasks(role, {**inputs, "zeromq_daemon_manager": "systemd"}),
        }
        for role, inputs in daemons
    ]
    run_plays(
        plays,
        place,
        *("-e", f"__zeromq_daemon_service_file={place}/{{{{ zeromq_daemon_name }}}}.service"),
        *("-e", f"__zeromq_daemon_socket_file={place}/{{{{ zeromq_daemon_name }}}}.socket"),
    )
    assert len(list(place.glob("*.service"))) == len(daemons)
    return place


def run_plays(plays, place, *arguments):
    (place / "render.yml").write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", place / "render.yml", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def verify(units, place, spoil=str):
    """What systemd says to the units, were their programs installed here."""
    for unit in [*units.glob("*.service"), *units.glob("*.socket")]:
        text = re.sub(r"^(Exec\w+)=\S+", r"\1=/bin/true", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)
        text = re.sub(r"^(User|Group)=.*", r"\1=daemon", text, flags=re.MULTILINE)
        (place / unit.name).write_text(spoil(text), encoding="utf-8")
    return analyze("verify", *(unit for unit in place.glob("*") if unit.is_file()))


def test_systemd_understands_every_line(units, tmp_path):
    assert verify(units, tmp_path) == (0, "")


def test_a_line_that_systemd_does_not_understand_would_be_noticed(units, tmp_path):
    said = verify(units, tmp_path, lambda text: text.replace("ProtectHome=yes", "ProtectHome=perhaps"))[1]
    assert re.search(r"openstack-zeromq-plain.service:\d+: Failed to parse", said)


def test_no_daemon_is_more_exposed_than_it_must_be(units):
    for unit in units.glob("*.service"):
        bar = MOST_EXPOSED.get(unit.stem, BAR)
        status, said = analyze("security", "--offline=true", f"--threshold={bar * 10:g}", unit)
        assert status == 0, said.splitlines()[-1]


def test_the_commands_that_are_started_are_ours(units):
    from click.testing import CliRunner  # noqa: PLC0415

    from openstack_zeromq.cli.zmqctl import main  # noqa: PLC0415

    for unit in units.glob("*.service"):
        started = re.search(r"^ExecStart=\S+/zmqctl (.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        if started:
            words = started[1].split()
            told = CliRunner().invoke(main, [*words[:2], "--help"])
            assert told.exit_code == 0
            assert all(word.partition("=")[0] in told.output for word in words if word.startswith("--"))


def test_what_a_role_asks_for_wins_over_what_is_forbidden(units):
    lines = (units / "openstack-zeromq-socketed.service").read_text(encoding="utf-8").splitlines()
    assert "PrivateTmp=no" in lines
    assert "LimitNOFILE=65536" in lines
    assert not [line for line in lines if line.startswith("RemoveIPC")]
    assert "ProtectSystem=strict" in lines


def test_a_service_with_a_socket_never_starts_without_it(units):
    service = (units / "openstack-zeromq-socketed.service").read_text(encoding="utf-8")
    assert "Requires=openstack-zeromq-socketed.socket\n" in service
    assert "After=openstack-zeromq-socketed.socket\n" in service
    socket = (units / "openstack-zeromq-socketed.socket").read_text(encoding="utf-8")
    assert "ListenStream=127.0.0.1:9501\nListenStream=[::1]:9501\n" in socket
    assert "WantedBy=sockets.target\n" in socket
    assert not (units / "openstack-zeromq-plain.socket").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/bin/echo", "--file=/etc/a-b_c.conf", "x:y,z@+%"], "/bin/echo --file=/etc/a-b_c.conf x:y,z@+%%"),
        (["/bin/echo", "a b", 'say "hi"', "back\\slash", "$HOME", "it's"],
         '/bin/echo "a b" "say \\"hi\\"" "back\\\\slash" $$HOME "it\'s"'),
        (["/odd $dir/100%", 5], '"/odd $dir/100%%" 5'),
    ],
)  # fmt: skip
def test_each_word_of_a_command_arrives_as_it_is(words, text):
    assert systemd.command(words) == text


@pytest.mark.parametrize("words", [["/bin/echo", ""], ["/bin/echo", "two\nlines"]])
def test_a_word_that_no_command_can_have_is_refused(words):
    with pytest.raises(systemd.AnsibleFilterError, match="cannot be empty or have more than one line"):
        systemd.command(words)


@pytest.mark.parametrize(("name", "value"), [("User", "a\nExecStart=/bin/sh"), ("Two words", "x"), ("", "x")])
def test_an_option_cannot_bring_a_line_of_its_own(name, value):
    with pytest.raises(systemd.AnsibleFilterError, match="is no option of a unit"):
        systemd.systemd_unit({"Service": {name: value}})


def test_sections_come_in_the_usual_order_and_lists_keep_theirs():
    text = systemd.systemd_unit({"Install": {"WantedBy": "a"}, "Unit": {"B": ["2", "1"], "A": True, "C": []}})
    assert text == "[Unit]\nA=yes\nB=2\nB=1\n\n[Install]\nWantedBy=a"


def test_a_service_on_the_bus_starts_after_the_receiver_and_stops_before_it(units, tmp_path):
    inputs = {"zeromq_service_units": ["nova-compute", "cinder-volume@b1.service"], "__zeromq_service_unit_dir": str(tmp_path)}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [{"ansible.builtin.import_role": {"name": "zeromq_service", "tasks_from": "order"}, "vars": inputs}],
    }
    run_plays([play], tmp_path)
    (tmp_path / "render.yml").unlink()
    for name in ("nova-compute.service", "cinder-volume@b1.service"):
        (tmp_path / name).write_text("[Service]\nExecStart=/bin/true\n")
        drop_in = tmp_path / f"{name}.d" / "openstack-zeromq.conf"
        assert drop_in.read_text().splitlines()[-2:] == ["[Unit]", "After=openstack-zeromq-receiver.service"]
    assert verify(units, tmp_path) == (0, "")
