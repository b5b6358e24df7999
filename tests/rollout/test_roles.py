"""Roles: what they take, and what they say they take, is the same."""

import re
import sys
import tomllib

import pytest
import yaml

from .conftest import CHECKOUT

ROLES = sorted(path for path in (CHECKOUT / "roles").iterdir() if path.is_dir())


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request):
    return request.param


def read(role, name):
    return yaml.safe_load((role / name).read_text(encoding="utf-8"))


def options(role, entry="main"):
    return read(role, "meta/argument_specs.yml")["argument_specs"][entry]["options"]


def test_defaults_and_argument_spec_agree(role):
    stated = {name: facts["default"] for name, facts in options(role).items()}
    assert stated == read(role, "defaults/main.yml")


def test_every_entry_point_with_a_spec_has_the_same_inputs(role):
    for entry in read(role, "meta/argument_specs.yml")["argument_specs"]:
        assert options(role, entry) == options(role)
        assert (role / "tasks" / f"{entry}.yml").exists()


def test_every_input_is_named_for_its_role_and_typed(role):
    for name, facts in options(role).items():
        assert name.startswith(f"{role.name}_")
        assert facts["type"]
        assert facts["description"].endswith(".")


def test_every_default_has_a_comment_above(role):
    lines = (role / "defaults/main.yml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"zeromq_\w+:", line):
            assert lines[number - 1].startswith("# "), f"{line} has no comment"


def test_every_role_can_be_taken_away(role):
    assert options(role)[f"{role.name}_state"]["choices"] == ["present", "absent"]
    assert (role / "tasks" / "remove.yml").exists()


def test_the_readme_names_every_input(role):
    text = (role / "README.md").read_text(encoding="utf-8")
    missing = [name for name in options(role) if f"`{name}`" not in text]
    assert not missing


WRITES = {"assemble", "blockinfile", "copy", "file", "get_url", "lineinfile", "replace", "template", "unarchive"}


def tasks_of(document):
    """Each task of a file, those in blocks and plays too."""
    for item in document or []:
        parts = [item.get(name) for name in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")]
        for part in parts:
            yield from tasks_of(part)
        if not any(parts):
            yield item


def plays():
    """Each play of each playbook that has hosts, with its name."""
    for file in sorted((*CHECKOUT.glob("playbooks/*.yml"), CHECKOUT / "site.yml")):
        for play in yaml.safe_load(file.read_text(encoding="utf-8")):
            if "hosts" in play:
                yield f"{file.relative_to(CHECKOUT)}: {play['name']}", play


def all_tasks():
    """Each task of each role and playbook, with where it is."""
    for file in sorted((*CHECKOUT.glob("roles/*/tasks/*.yml"), *CHECKOUT.glob("playbooks/**/*.yml"))):
        for task in tasks_of(yaml.safe_load(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(CHECKOUT)}: {task['name']}", task


def test_every_task_that_writes_says_with_which_mode():
    """Without one the umask of root decides, and no later run restores what it was meant to be."""
    written = []
    for where, task in all_tasks():
        for name in WRITES & {key.removeprefix("ansible.builtin.") for key in task}:
            arguments = task[f"ansible.builtin.{name}"]
            if arguments.get("state") not in ("absent", "link"):  # a link has no mode
                written.append((where, "mode" in arguments))
    assert len(written) > 20
    assert [where for where, has_mode in written if not has_mode] == []


def test_every_play_goes_in_step_and_gathers_no_facts_whatever_ansible_cfg_says():
    """What comes later builds on what all hosts did before: keys are made everywhere before they are trusted anywhere."""
    wrong = [where for where, play in plays() if (play.get("strategy"), play.get("gather_facts")) != ("linear", False)]
    assert wrong == []


def test_what_is_done_on_the_control_node_is_done_as_its_user():
    """He may have no sudo there, though `--become` is right for the nodes."""
    here = [(where, task) for where, task in all_tasks() if task.get("delegate_to") == "localhost"]
    assert here
    assert [where for where, task in here if task.get("become") is not False] == []


def test_no_task_relies_on_a_variable_that_the_command_line_beats():
    begun = {where: task for where, task in all_tasks() if "ansible_python_interpreter" in task.get("vars", {})}
    assert [
        where for where, task in begun.items() if not any("python" in told for told in task.values() if type(told) is dict)
    ] == []


FACT = re.compile(
    r"ansible_(facts|default_ipv|all_ipv|hostname|fqdn|distribution|os_family|system|architecture|env|date_time)\w*"
)


def test_no_role_needs_facts():
    files = [*CHECKOUT.glob("roles/**/*.yml"), *CHECKOUT.glob("roles/**/*.j2"), *CHECKOUT.glob("playbooks/**/*.yml")]
    assert [str(file) for file in files if FACT.search(file.read_text(encoding="utf-8"))] == []


def test_private_variables_are_named_so(role):
    for name in read(role, "vars/main.yml"):
        assert name.startswith(f"__{role.name}_")


def test_longest_directory_of_sockets_is_the_one_of_the_package():
    from openstack_zeromq import address  # noqa: PLC0415

    receiver = CHECKOUT / "roles" / "zeromq_receiver"
    assert read(receiver, "vars/main.yml")["__zeromq_receiver_ipc_dir_max"] == address.IPC_DIR_BYTES


def test_a_node_has_the_clients_of_all_stores():
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    stated = read(CHECKOUT / "roles" / "zeromq_receiver", "vars/main.yml")["__zeromq_receiver_extras"]
    assert set(stated) == set(extras) - {"rollout", "test", "dev"}


def test_probe_has_the_topics_that_the_local_ring_serves():
    from openstack_zeromq.cli import probe  # noqa: PLC0415

    group_vars = yaml.safe_load((CHECKOUT / "inventories/local/group_vars/zeromq.yml").read_text(encoding="utf-8"))
    assert set(group_vars["zeromq_matchmaker_topics"]) == {probe.TOPIC, f"{probe.NOTIFICATION_TOPIC}.info"}


def test_templates_begin_with_the_managed_comment():
    templates = sorted((CHECKOUT / "roles").glob("*/templates/*.j2"))
    assert templates
    for template in templates:
        assert template.read_text(encoding="utf-8").startswith("{{ ansible_managed | comment }}\n"), template


def test_a_run_that_takes_away_knows_no_kinds_of_nodes_and_warns_of_nothing(playbook, tmp_path):
    """The loop over them is read although the tasks of a receiver that goes are skipped, and leave no kind behind."""
    tasks = [
        {"name": "Read", "ansible.builtin.include_vars": str(CHECKOUT / "roles" / "zeromq_receiver" / "vars" / "main.yml")},
        {"name": "Show", "ansible.builtin.debug": {"msg": "kinds {{ __zeromq_receiver_kinds | list }}"}},
    ]
    facts = {"__zeromq_receiver_node": {"changed": False, "skipped": True}, "ansible_connection": "local"}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "n1", "gather_facts": False, "vars": facts, "tasks": tasks}]))
    done = playbook("-i", "n1,", tmp_path / "play.yml")
    assert "kinds []" in done.stdout, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_the_examples_report_is_not_read_as_an_inventory(playbook, tmp_path):
    show = {"name": "Show", "ansible.builtin.debug": {"msg": "to {{ zeromq_probe_reports }}"}}
    play = {"hosts": "controller1.example.com", "gather_facts": False, "tasks": [show]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{**play, "vars": {"ansible_connection": "local"}}]))
    done = playbook("-i", "inventories/example", tmp_path / "play.yml")
    said = "".join(done.stdout.split())
    assert f"to{CHECKOUT}/inventories/example-verify.json" in said, done.stdout + done.stderr
    example = (CHECKOUT / "inventories" / "example" / "group_vars" / "all.yml").read_text()
    assert "\n# zeromq_redis_password: !vault |\n" in example, "the example of a vault has lines of its own"


def test_output_is_what_changes_fails_and_takes_long(playbook, tmp_path):
    tasks = [
        {"name": "Nothing", "ansible.builtin.command": "true", "changed_when": False},
        {
            "name": "Slow",
            "ansible.builtin.command": "true",
            "changed_when": False,
            "vars": {"__zeromq_takes": "may take a minute"},
        },
        {"name": "Said", "ansible.builtin.debug": {"msg": "an operator reads this"}},
        {"name": "Changed", "ansible.builtin.command": "true"},
        {
            "name": "Wrong",
            "ansible.builtin.import_role": {"name": "zeromq_receiver", "tasks_from": "validate"},
            "vars": {"zeromq_receiver_security": "rot13"},
        },
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "n1", "gather_facts": False, "tasks": tasks}]))
    asked = ("-i", "n1,", "-e", "ansible_connection=local", "-e", f"ansible_python_interpreter={sys.executable}")
    said = playbook(*asked, tmp_path / "play.yml").stdout
    assert "TASK [Nothing]" not in said
    assert "... Slow: may take a minute\n" in said
    assert "an operator reads this" in said
    assert "TASK [Changed]" in said
    wrong = said.partition("Validating arguments")[2].partition("PLAY RECAP")[0].splitlines()
    assert "    msg: 'value of zeromq_receiver_security must be one of: curve, none, got: rot13'" in wrong
    assert len(wrong) < 6, said
    assert "TASK [Nothing]" in playbook(*asked, "-v", tmp_path / "play.yml").stdout
