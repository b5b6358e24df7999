"""Module oslo_config: sets options in somebody else's file, keeps every other byte, and puts back what was there."""

import json
import os
import stat
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_config import cfg

from .conftest import CHECKOUT, load

oslo_config = load(CHECKOUT / "library" / "oslo_config.py")

NOVA = """\
# nova's own
[DEFAULT]
debug=True
   # a continuation that looks like a comment
#transport_url = rabbit://guest:guest@localhost
log_dir = /var/log/nova

[oslo_messaging_notifications]
driver = messagingv2
driver = log
"""


def seen_by_oslo(text):
    """Section -> option -> values, as oslo.config reads a file; sections by their normalized names."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        normalized = {}
        parser = cfg.ConfigParser(file.name, {})
        parser._add_normalized(normalized)
        parser.parse()
    return {section: options for section, options in normalized.items() if options}


def after(before, wanted):
    """What oslo.config should read once `wanted` is set."""
    expected = {section: dict(options) for section, options in before.items()}
    for section, options in wanted.items():
        name = section if section == "DEFAULT" else section.lower()
        for option, value in options.items():
            there = expected.setdefault(name, {}).get(option, [])
            if value is None:
                expected[name].pop(option, None)
            else:
                expected[name][option] = [*there[:-1], value]
    return {section: options for section, options in expected.items() if options}


def edits_as_known(planned):
    return {"edits": [oslo_config.asdict(edit) for edit in planned.edits]}


class TestPlan:
    """Against oslo.config's own parser, on files nobody would write by hand."""

    sections = st.sampled_from(["DEFAULT", "a", "A", "oslo_messaging_zmq"])
    names = st.sampled_from(["transport_url", "driver", "x", "rpc_zmq_ipc_dir"])
    values = st.one_of(
        st.sampled_from(["zmq://", "rabbit://u:p@h:5672/", "", '"quoted"', "' blanks '", "'", "a=b:c", "# no comment", "[x]"]),
        st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8),
    )
    ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])

    @st.composite
    @staticmethod
    def files(draw, sections=sections, names=names, values=values, ends=ends):
        """A file that oslo.config reads, with odd blanks, continuations, comments, doubles and line ends."""
        lines = draw(st.lists(st.sampled_from(["", "# x", "#driver = 1", ";x: 2", "   "]), max_size=2))
        for section in draw(st.lists(sections, max_size=4)):
            lines.append(f"[{section}]{draw(st.sampled_from(['', '  ']))}")
            for _ in range(draw(st.integers(0, 4))):
                kind = draw(st.integers(0, 3))
                if kind:
                    sign = draw(st.sampled_from([" = ", "=", ":", "  :  "]))
                    lines.append(f"{draw(names)}{sign}{draw(values)}")
                    lines += draw(st.lists(st.sampled_from(["  more", "\tmore", "  # more", " [x]"]), max_size=2))
                else:
                    lines.append(draw(st.sampled_from(["", "  ", "# x", "#transport_url = y", "#  x:", "; driver=1"])))
        text = "".join(line + draw(ends) for line in lines)
        return text[:-1] if text.endswith("\n") and draw(st.booleans()) else text

    wanted = st.dictionaries(sections, st.dictionaries(names, st.one_of(st.none(), values), max_size=3), max_size=3).filter(
        lambda wanted: not {"a", "A"} <= set(wanted)
    )

    @settings(max_examples=400, deadline=None)
    @given(text=files(), wanted=wanted)
    def test_oslo_config_reads_what_was_there_and_ours(self, text, wanted):
        planned = oslo_config.plan(text, {}, wanted)
        assert seen_by_oslo(planned.text) == after(seen_by_oslo(text), wanted)

    @settings(max_examples=400, deadline=None)
    @given(text=files(), wanted=wanted)
    def test_taken_back_is_what_was_there_to_the_byte(self, text, wanted):
        planned = oslo_config.plan(text, {}, wanted)
        back = oslo_config.plan(planned.text, edits_as_known(planned), {})
        assert (back.text, back.edits, back.left) == (text, [], [])

    @settings(max_examples=400, deadline=None)
    @given(text=files(), wanted=wanted, other=wanted)
    def test_a_second_run_and_other_inputs_are_as_if_made_at_once(self, text, wanted, other):
        first = oslo_config.plan(text, {}, wanted)
        assert oslo_config.plan(first.text, edits_as_known(first), wanted) == first
        assert oslo_config.plan(first.text, edits_as_known(first), other) == oslo_config.plan(text, {}, other)

    @settings(max_examples=300, deadline=None)
    @given(text=files(), wanted=wanted)
    def test_comments_empty_lines_and_sections_stay_in_their_order(self, text, wanted):
        new = iter(oslo_config.split(oslo_config.plan(text, {}, wanted).text))
        for line in oslo_config.split(text):
            if not line.text.strip() or line.text.startswith(("#", ";", "[")):
                assert any(line.text == other.text for other in new), f"{line!r} is missing or moved"

    @settings(max_examples=300, deadline=None)
    @given(text=files(), wanted=wanted, appended=files())
    def test_what_others_append_meanwhile_stays(self, text, wanted, appended):
        planned = oslo_config.plan(text, {}, wanted)
        addition = f"\n[z]\n{''.join(line for line in appended.splitlines(True) if line.startswith('#'))}"
        back = oslo_config.plan(planned.text + addition, edits_as_known(planned), {})
        assert seen_by_oslo(back.text) == seen_by_oslo(text + addition)
        assert back.text.endswith(addition.removeprefix("\n"))

    @settings(max_examples=300, deadline=None)
    @given(text=st.text(st.sampled_from("[]a=: \t\n\r#\"'\x0c\x1c\x85"), max_size=30))
    def test_what_oslo_config_refuses_is_refused(self, text):
        try:
            seen_by_oslo(text)
        except Exception:
            with pytest.raises(oslo_config.FileError):
                oslo_config.parse(oslo_config.split(text))
        else:
            oslo_config.parse(oslo_config.split(text))

    def test_a_new_option_stands_below_its_commented_out_self(self):
        planned = oslo_config.plan(NOVA, {}, {"DEFAULT": {"transport_url": "zmq://"}})
        expected = "#transport_url = rabbit://guest:guest@localhost\ntransport_url = zmq://\n"
        assert planned.text == NOVA.replace("#transport_url = rabbit://guest:guest@localhost\n", expected)

    def test_a_line_that_somebody_changed_since_is_theirs(self):
        planned = oslo_config.plan(NOVA, {}, {"DEFAULT": {"transport_url": "zmq://"}})
        theirs = planned.text.replace("transport_url = zmq://", "transport_url = rabbit://new")
        back = oslo_config.plan(theirs, edits_as_known(planned), {})
        assert back.text == theirs
        assert [str(edit) for edit in back.left] == ["insert DEFAULT.transport_url"]

    def test_a_run_that_ended_between_record_and_file_forgets_nothing(self):
        text = "[DEFAULT]\ntransport_url = rabbit://old\n"
        first = oslo_config.plan(text, {}, {"DEFAULT": {"transport_url": "zmq://a"}})
        second = oslo_config.plan(first.text, edits_as_known(first), {"DEFAULT": {"transport_url": "zmq://b"}})
        known = {**edits_as_known(first), "next": edits_as_known(second)["edits"]}
        for found in (first.text, second.text):
            assert oslo_config.plan(found, known, {}).text == text


class TestModule:
    @pytest.fixture
    def nova(self, tmp_path):
        path = tmp_path / "nova.conf"
        path.write_text("[DEFAULT]\ntransport_url = rabbit://nova:s3cret@r1:5672,nova:s3cret@r2:5672/\n# end")
        path.chmod(0o640)
        return path

    @pytest.fixture
    def run(self, run_module, nova, tmp_path):
        def run(check=False, **arguments):
            settings = {"DEFAULT": {"transport_url": "zmq://"}, "oslo_messaging_zmq": {"rpc_zmq_ipc_dir": "/run/o$"}}
            asked = {"path": str(nova), "record": str(tmp_path / "state" / "nova.json"), "options": settings, **arguments}
            return run_module(oslo_config, check=check, **asked)

        return run

    def test_set_again_and_taken_back(self, run, nova, tmp_path):
        before = nova.read_bytes()
        first = run()
        assert first["changed"]
        assert nova.read_text() == (
            "[DEFAULT]\ntransport_url = zmq://\n# end\n\n[oslo_messaging_zmq]\nrpc_zmq_ipc_dir = /run/o\\$\n"
        )
        assert stat.S_IMODE(nova.stat().st_mode) == 0o640
        assert stat.S_IMODE((tmp_path / "state" / "nova.json").stat().st_mode) == 0o600
        assert first["edits"] == [
            "replace DEFAULT.transport_url",
            "section oslo_messaging_zmq",
            "insert oslo_messaging_zmq.rpc_zmq_ipc_dir",
        ]
        assert not run()["changed"]
        assert run(state="absent")["changed"]
        assert nova.read_bytes() == before
        assert not (tmp_path / "state" / "nova.json").exists()
        assert not run(state="absent")["changed"]

    @pytest.mark.parametrize("state", ["present", "absent"])
    def test_check_mode_tells_the_same_and_writes_nothing(self, run, nova, tmp_path, state):
        if state == "absent":
            run()
        before = nova.read_bytes()
        record = tmp_path / "state" / "nova.json"
        kept = record.read_bytes() if record.exists() else None
        told = run(check=True, state=state)
        assert nova.read_bytes() == before
        assert (record.read_bytes() if record.exists() else None) == kept
        done = run(state=state)
        assert {**done, "size": 0} == {**told, "size": 0, "invocation": done["invocation"]}

    def test_no_password_is_shown(self, run):
        new = {"DEFAULT": {"transport_url": "zmq+redis://:verysecret@h1:6379"}}
        for told in (run(options=new, check=True), run(options=new), run(state="absent")):
            assert "s3cret" not in json.dumps(told)
            assert "verysecret" not in json.dumps(told)
            assert "transport_url = rabbit://nova:********@r1:5672,nova:********@r2:5672/" in json.dumps(told["diff"])

    def test_a_copy_is_kept_when_asked_for(self, run, nova):
        before = nova.read_bytes()
        copy = run(backup=True)["backup_file"]
        with open(copy, "rb") as file:
            assert file.read() == before

    def test_a_link_stays_a_link(self, run, nova, tmp_path):
        link = tmp_path / "link.conf"
        link.symlink_to(nova)
        assert run(path=str(link))["path"] == str(nova)
        assert link.is_symlink()
        assert not run()["changed"], "the record knows the file by its own name"

    def test_stray_bytes_and_an_empty_file_are_kept(self, run, nova):
        for before in (b"", b"[DEFAULT]\r\nx = \xff\xfe\r\n#\xc3\x28"):
            nova.write_bytes(before)
            assert run()["changed"]
            assert not run()["changed"]
            run(state="absent")
            assert nova.read_bytes() == before

    def test_a_file_that_is_not_there_is_refused_but_taken_back(self, run, nova):
        run()
        os.unlink(nova)
        assert "install the service first" in run()["msg"]
        assert not run(state="absent")["changed"]

    def test_a_file_that_oslo_config_refuses_is_left_alone(self, run, nova):
        nova.write_text("[DEFAULT]\nno assignment\n")
        assert "line 2 sets no option; oslo.config refuses it: 'no assignment'" in run()["msg"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"DEFAULT": "zmq://"}, "DEFAULT must hold option: value"),
            ({"a]": {"b": 1}}, "cannot be the name of a section"),
            ({"a": {"b = c": 1}}, "cannot be the name of an option"),
            ({"a": {"b": "1\n2"}}, "the value of b must be one line"),
        ],
    )
    def test_options_that_cannot_stand_in_a_file_are_refused(self, run, options, message):
        assert message in run(options=options)["msg"]

    def test_a_damaged_record_is_refused(self, run, tmp_path):
        run()
        (tmp_path / "state" / "nova.json").write_text("{")
        assert "is damaged; take it away" in run()["msg"]
