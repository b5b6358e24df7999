"""The firewall's modules: names become addresses, and what differs from load to load counts for nothing.

What nftables itself does with them is tested on machines (molecule/other).
"""

import json

import pytest

from .conftest import CHECKOUT, load

host_addresses = load(CHECKOUT / "library" / "host_addresses.py")
nft_table = load(CHECKOUT / "library" / "nft_table.py")

NO_NAME = "x" * 64  # a label has 63 characters at most (RFC 1035), so no name service is asked


def test_addresses_and_networks_stay_and_are_merged(run_module):
    done = run_module(
        host_addresses,
        names=["192.0.2.9", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.7", "2001:db8::1", "[2001:db8::2]", "fe80::1%eth0"],
    )
    assert done["ipv4"] == ["10.0.0.0/24", "10.0.1.0/24", "192.0.2.9"]
    assert done["ipv6"] == ["2001:db8::1", "2001:db8::2", "fe80::1"]
    assert not done["changed"]


def test_a_name_becomes_all_its_addresses(run_module, monkeypatch):
    assert "127.0.0.1" in run_module(host_addresses, names=["localhost"])["ipv4"]
    answers = [(0, 0, 0, "", (address, 0)) for address in ("192.0.2.1", "2001:db8::1", "192.0.2.2")]
    monkeypatch.setattr(host_addresses.socket, "getaddrinfo", lambda *_asked, **_more: answers)
    done = run_module(host_addresses, names=["several.example.com"])
    assert (done["ipv4"], done["ipv6"]) == (["192.0.2.1", "192.0.2.2"], ["2001:db8::1"])


def test_a_name_without_an_address_is_refused_with_the_remedy(run_module):
    done = run_module(host_addresses, names=["192.0.2.1", f"{NO_NAME}.example.com"])
    assert done["failed"]
    assert f"cannot resolve {NO_NAME}.example.com" in done["msg"]
    assert "set zeromq_matchmaker_address" in done["msg"]


def test_a_name_service_that_is_away_is_not_asked_for_every_name():
    found = host_addresses.resolve(f"{NO_NAME}{number}" for number in range(100))
    assert len(found.failures) == host_addresses.ENOUGH


def test_counters_handles_and_what_packets_filled_in_are_no_difference():
    def told(handle, crowd):
        return {
            "nftables": [
                {"metainfo": {"version": "1.0.6"}},
                {"set": {"name": "crowd4", "handle": handle, "flags": ["dynamic"], "elem": crowd}},
                {"set": {"name": "peers4", "handle": handle, "flags": ["interval"], "elem": ["192.0.2.1"]}},
                {"rule": {"chain": "receiver", "handle": handle, "expr": [{"accept": None}]}},
            ]
        }

    assert nft_table.stable(told(3, ["192.0.2.7"])) == nft_table.stable(told(9, []))
    other = json.loads(json.dumps(told(3, [])).replace("192.0.2.1", "192.0.2.2"))
    assert nft_table.stable(other) != nft_table.stable(told(3, []))


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_machine_without_nftables_has_no_table(run_module, tmp_path, monkeypatch, state):
    monkeypatch.setattr(nft_table, "run", lambda *command: nft_table.subprocess.CompletedProcess(command, 127, "", "no nft"))
    done = run_module(nft_table, name="ours", file=str(tmp_path / "rules.nft"), state=state)
    assert bool(done.get("failed")) == (state == "present")
    assert "is nftables installed" in done["msg"] if state == "present" else not done["changed"]
