"""A reader of rings as OpenStack's releases from Grizzly to Juno had it: its rules, so that no ring of ours may break one.

* The file is one JSON object; every value is a list, of which each lookup takes the next, round and round: an empty list ends the
  process that looks at it.
* A name that begins with `fanout~` means all hosts of what follows.
* In any other name a dot ends the topic and what follows is the host: the ring is not asked, whatever it says.
* Any other name is a key of the ring as it stands, `topic` or `topic:host`; a name that is no key has no host.
* A host becomes the address `tcp://<host>:<port>`.
"""

import itertools
import json
import re
from collections.abc import Iterator

_HOST = re.compile(r"[^\s/:]+")


class CannotLiveWithError(Exception):
    """What would have broken the reader, now or at a lookup."""


class Reader:
    """:raises CannotLiveWithError: the ring would break it."""

    def __init__(self, data: bytes) -> None:
        ring = json.loads(data)
        if not isinstance(ring, dict):
            raise CannotLiveWithError("a ring is a JSON object")
        for key, hosts in ring.items():
            if not isinstance(hosts, list) or not hosts:
                raise CannotLiveWithError(f"{key}: {hosts!r} is no list to go round in")
            for host in hosts:
                if not isinstance(host, str) or not _HOST.fullmatch(host):
                    raise CannotLiveWithError(f"{key}: no address can be made of {host!r}")
        self.ring: dict[str, list[str]] = ring
        self._rounds: dict[str, Iterator[str]] = {key: itertools.cycle(hosts) for key, hosts in ring.items()}

    def hosts(self, name: str) -> list[str]:
        """Where a message to `name` goes."""
        if name.startswith("fanout~"):
            return list(self.ring.get(name.removeprefix("fanout~"), []))
        _, dot, host = name.partition(".")
        if dot:
            return [host]
        return [next(self._rounds[name])] if name in self._rounds else []
