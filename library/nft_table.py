"""Keep one table of nftables as its file says, in the kernel and not only on the disk.

Read -> compare -> load. A unit that stays active says nothing of the kernel: `nft flush ruleset` drops every table unnoticed.
"""

from __future__ import annotations

import json
import os
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: nft_table
short_description: Keep one table of nftables as its file says
description:
  - Compares the table in the kernel with what its file makes of an empty one, and loads the file when they differ.
  - What the kernel itself adds does not count; that is counters, handles and the elements of dynamic sets.
author: openstack-zeromq maintainers
options:
  family:
    description: Family of the table.
    type: str
    default: inet
  name:
    description: Name of the table.
    type: str
    required: true
  file:
    description: The file, which replaces the table as a whole. Needed with O(state=present).
    type: path
  state:
    description: V(present) loads the file unless the table is the same, V(absent) deletes the table.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: The rules are those of the file
  nft_table:
    name: openstack_zeromq
    file: /etc/oslo/openstack-zeromq.nft
"""

RETURN = r"""
found:
  description: Whether the table was there.
  returned: success
  type: bool
"""

ARGUMENT_SPEC = {
    "family": {"type": "str", "default": "inet"},
    "name": {"type": "str", "required": True},
    "file": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

UNSTABLE = frozenset({"handle", "index"})
"""Keys of nft's JSON that differ from load to load (libnftables-json(5))."""


class NftError(Exception):
    """What cannot be done, with the remedy."""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, required_if=[("state", "present", ["file"])], supports_check_mode=True)
    asked = module.params
    try:
        live = live_table(asked["family"], asked["name"])
        if asked["state"] == "absent":
            wanted = None
            if live is not None and not module.check_mode:
                nft("delete", "table", asked["family"], asked["name"])
        else:
            wanted = wanted_table(asked, module.check_mode)
            if live != wanted and not module.check_mode:
                load(asked, wanted)
    except (NftError, OSError) as fault:
        module.fail_json(msg=str(fault))
    module.exit_json(changed=live != wanted, found=live is not None, diff={"before": shown(live), "after": shown(wanted)})


def load(asked: dict, wanted: list[dict]) -> None:
    """:raises NftError: the table is not `wanted` then, either."""
    nft("--file", asked["file"])
    if live_table(asked["family"], asked["name"]) != wanted:
        raise NftError(f"{asked['file']} was loaded, and the table {asked['name']} is still another one")


def live_table(family: str, name: str) -> list[dict] | None:
    """Return the table in the kernel; None: there is none, or no nftables at all."""
    done = run("nft", "--json", "--stateless", "list", "tables")
    if done.returncode == 127:
        return None
    tables = [entry["table"] for entry in answer(done)["nftables"] if "table" in entry]
    if not any((table["family"], table["name"]) == (family, name) for table in tables):
        return None
    return stable(answer(run("nft", "--json", "--stateless", "list", "table", family, name)))


def wanted_table(asked: dict, dry: bool) -> list[dict]:
    """Return what the file makes of an empty table, in a network namespace that ends with the command.

    In check mode the file may not be there yet; then nothing is known of the rules but that they would be loaded.
    """
    if dry and not os.path.exists(asked["file"]):
        return []
    script = 'nft --file "$1" && exec nft --json --stateless list table "$2" "$3"'
    done = run("unshare", "--net", "sh", "-c", script, "sh", asked["file"], asked["family"], asked["name"])
    return stable(answer(done))


def stable(told: dict) -> list[dict]:
    """Return nft's JSON without what differs from load to load."""
    kept = []
    for entry in told["nftables"]:
        for kind, facts in entry.items():
            if kind == "metainfo":
                continue
            plain = {key: value for key, value in facts.items() if key not in UNSTABLE}
            # A set without given elements is one that packets fill.
            if kind == "set" and "interval" not in plain.get("flags", []):
                plain.pop("elem", None)
            kept.append({kind: plain})
    return kept


def shown(table: list[dict] | None) -> str:
    return "".join(f"{json.dumps(entry, sort_keys=True)}\n" for entry in table or ())


def nft(*words: str) -> None:
    """:raises NftError: it does not do that."""
    done = run("nft", *words)
    if done.returncode != 0:
        raise NftError(f"nft {' '.join(words)} failed: {said(done)}")


def answer(done: subprocess.CompletedProcess[str]) -> dict:
    """:raises NftError: nft did not answer."""
    if done.returncode != 0:
        raise NftError(f"the firewall's rules cannot be read: {said(done)}; is nftables installed, and are you root?")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise NftError(
            f"nft does not answer in JSON, it says {done.stdout.strip()[:200]!r}: a build of nft with JSON is needed"
        ) from None


def said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        return subprocess.run(  # noqa: S603 - our own arguments, no shell
            command, check=False, capture_output=True, text=True, env={"PATH": path, "LC_ALL": "C.UTF-8"}
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"there is no {command[0]}")


if __name__ == "__main__":
    main()
