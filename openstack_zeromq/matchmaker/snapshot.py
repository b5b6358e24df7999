"""Snapshot: what a matchmaker knew, on disk, for a start without its store.

One JSON file, replaced whole. It counts only for the store and fabric it was made for; a file that is not whole counts as none.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from oslo_log import log as logging

from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.base import Member
from openstack_zeromq.matchmaker.holding import Known, Mark

LOG = logging.getLogger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """`topics` as they were believed; `registered`: what this node served (topic -> servers); `saved`: wall-clock seconds of the
    epoch, 0 when there was nothing."""

    topics: Mapping[str, Known] = field(default_factory=dict)
    registered: Mapping[str, frozenset[str]] = field(default_factory=dict)
    saved: float = 0.0


class Snapshot:
    """The file of node `host` below `directory`; `store` names what it is a snapshot of."""

    def __init__(self, directory: str, host: str, store: str) -> None:
        self.directory = directory
        self._path = Path(directory, f"matchmaker.{quote(host, safe='@')}.json")
        self._store = store

    def load(self) -> Memory:
        """What was saved last; nothing when there is no such file, or it is none of ours."""
        try:
            raw = json.loads(self._path.read_bytes())
            if raw["version"] != _VERSION or raw["store"] != self._store:
                LOG.info("%s is of another store: not used", self._path)
                return Memory()
            topics = {str(name): _known(facts) for name, facts in raw["topics"].items()}
            registered = {str(name): frozenset(map(str, servers)) for name, servers in raw["registered"].items()}
            return Memory(topics, registered, float(raw["saved"]))
        except FileNotFoundError:
            return Memory()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            LOG.warning("%s is not usable (%s): not used", self._path, exc)
            return Memory()

    def save(self, topics: Mapping[str, Known], registered: Mapping[str, frozenset[str]]) -> None:
        """:raises OSError: as the file system says."""
        document = {
            "version": _VERSION,
            "store": self._store,
            "saved": time.time(),
            "registered": {name: sorted(servers) for name, servers in sorted(registered.items())},
            "topics": {
                name: {"epoch": known.mark.epoch, "generation": known.mark.generation, "members": known.members}
                for name, known in sorted(topics.items())
            },
        }
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        ring_file.write(self._path, json.dumps(document).encode(), mode=0o640)


def _known(facts: dict[str, object]) -> Known:
    members, epoch, generation = facts["members"], facts["epoch"], facts["generation"]
    if not isinstance(members, dict) or not isinstance(epoch, str) or not isinstance(generation, int):
        raise TypeError("a topic is not written as topics are")
    return Known({str(host): _member(*member) for host, member in members.items()}, Mark(epoch, generation))


def _member(address: str, port: int | None, servers: list[str]) -> Member:
    if not isinstance(address, str) or not (port is None or isinstance(port, int)):
        raise TypeError("a host is not written as hosts are")
    return Member(address, port, tuple(map(str, servers)))
