"""The page: what a person sees who opens the verification in a browser, and what a machine may not do with it."""

import html.parser
import json
import re

import pytest
from ansible.errors import AnsibleFilterError
from click.testing import CliRunner

from openstack_zeromq.cli import matrix, page
from openstack_zeromq.cli.report import Fault, Outcome, Report

from .conftest import CHECKOUT, load

page_filter = load(CHECKOUT / "filter_plugins" / "zeromq_page.py")

NODES = ("node1", "node2", "node3")


def report(node, **changes):
    good = {
        "calls": {peer: Outcome(ok=True, ms=1.25, by=peer) for peer in NODES},
        "bare": Outcome(ok=True, ms=2.0, by="node2"),
        "fanout": {peer: Outcome(ok=True) for peer in NODES},
        "notification": Outcome(ok=True, by="node3"),
        "at": "2026-11-22T04:15:00+00:00",
    }
    return Report(node, **{**good, **changes})


GREEN = [report(node) for node in NODES]
DEAD = Outcome.failed("no answer within 10 s (MessagingTimeout)")
LOST = [report(node, calls={**GREEN[0].calls, "node3": DEAD}) for node in ("node1", "node2")]


class Reader(html.parser.HTMLParser):
    """Checks that what is opened is closed, and collects tags, attributes and text."""

    VOID = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r" ([:?,])", r"\1", " ".join(" ".join(self.words).split()))


@pytest.mark.parametrize("reports", [[], GREEN, LOST, [report("node1", calls={}, fanout={})]])
def test_page_is_whole_html_and_fetches_nothing(reports):
    text = page.page(reports)
    read = Reader(text)
    assert not [one for one in read.attributes if one[1] in {"src", "href"}]
    assert not re.search(r"url\(|@import|<script|https?:", text)


def test_green_page_says_that_everything_arrived_when_and_how_much():
    text = Reader(page.page(GREEN)).text
    assert "✓ Everything arrived" in text
    assert "between 3 nodes over openstack-zeromq, 2026-11-22 04:15:00 UTC" in text
    assert "calls ✓ 9 of 9" in text
    assert "median call 1.2 ms" in text
    assert "What did not arrive" not in text


def test_failures_stand_before_the_matrix_with_their_remedy():
    text = Reader(page.page(LOST)).text
    assert text.index("What did not arrive (2)") < text.index("Calls from row to column")
    assert "no answer within 10 s (MessagingTimeout) zmqctl status on one of these nodes: is the link to node3 up?" in text
    assert "✗ 2 of 16 did not arrive" in text


def test_same_reports_give_the_same_page_whenever_it_is_made():
    assert page.page(GREEN) == page.page(GREEN)
    times = set(re.findall(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", page.page(GREEN)))
    assert times == {"2026-11-22 04:15:00"}


def test_everything_that_a_colour_says_a_sign_says_too():
    slow = {"node1": Outcome(ok=True, ms=1.0), "node2": Outcome(ok=True, ms=2.5), "node3": Outcome(ok=True, ms=9.0)}
    text = page.page(
        [report("node1", calls={**slow, "node4": Outcome(ok=True, ms=1.0), "node5": Outcome(ok=True, ms=1.0)}), *LOST]
    )
    assert set(re.findall(r'<td class="h1[^>]*>[^<]*(.)<', text)) == {"▴"}
    assert set(re.findall(r'<td class="h2[^>]*>[^<]*(.)<', text)) == {"▲"}
    assert set(re.findall(r'<td class="x[^>]*>(.)', text)) == {"✗"}


def test_what_nodes_say_is_text_and_never_html():
    evil = "<script>alert(1)</script>"
    quoted = '"><script>'
    calls = {evil: Outcome.failed(quoted), "node1": Outcome(ok=True, ms=1.0)}
    text = page.page([report(evil, calls=calls, notification=Outcome(ok=True, by=evil), at=evil)])
    assert "<script" not in text
    assert evil in Reader(text).text


def test_one_dead_node_is_one_row_and_so_is_a_node_that_reaches_nobody():
    nodes = [f"n{number}" for number in range(50)]
    dead = [Fault("call", node, "n7", "timeout") for node in nodes]
    alone = [Fault("call", "n9", node, "refused") for node in nodes]
    unasked = [Fault("fanout", node, "n7", "not asked") for node in nodes]
    found = page.groups([*unasked, *dead, *alone, Fault("bare call", "n1", "", "nobody")])
    assert [(group.kind, len(group.senders), group.receivers[:1]) for group in found] == [
        ("call", 50, ("n7",)),
        ("call", 1, ("n0",)),
        ("bare call", 1, ()),
        ("fanout", 50, ("n7",)),
    ], "what follows from others comes last"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("the receiver did not accept a message", "systemctl status openstack-zeromq-receiver"),
        ("node2 answered instead", "two nodes go by one name"),
        ("arrived 0 times, not once", "has the channel a consumer"),
        ("arrived 2 times, not once", "that is a bug"),
        ("something else", "journalctl -u openstack-zeromq-receiver"),
    ],
)
def test_each_kind_of_failure_has_a_remedy(error, words):
    assert words in page.remedy(page.Group("call", error, ("node1",), ("node2",)))


def test_times_of_the_run_survive_json_and_old_reports_have_none():
    assert Report.from_json(GREEN[0].to_json()) == GREEN[0]
    old = {name: value for name, value in GREEN[0].to_json().items() if name != "at"}
    assert Report.from_json(old).at is None
    assert "UTC" not in Reader(page.page([Report.from_json(old)])).text


def test_command_writes_the_page_beside_the_matrix(tmp_path):
    file, made = tmp_path / "verify.json", tmp_path / "verify.html"
    file.write_text(json.dumps([each.to_json() for each in LOST]))
    done = CliRunner().invoke(matrix.matrix, [str(file), "--html", str(made)])
    assert done.exit_code == 1, "some failed"
    assert made.read_text(encoding="utf-8") == page.page(LOST)
    done = CliRunner().invoke(matrix.matrix, [str(file), "--html", str(tmp_path / "no" / "such.html")])
    assert "No such file or directory" in done.output


def test_filter_makes_the_same_page_and_names_what_is_no_report():
    assert page_filter.zeromq_page([each.to_json() for each in GREEN]) == page.page(GREEN)
    with pytest.raises(AnsibleFilterError, match="zeromq_page: expected a list"):
        page_filter.zeromq_page("x")


def test_without_the_package_there_is_no_page_and_no_failure(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openstack_zeromq.cli", None)
    assert page_filter.zeromq_page([]) == ""
