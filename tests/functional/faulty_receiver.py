"""A receiver whose code raises where a test says so: the shipped program, with its own table of handlers, each wrapped.

    python faulty_receiver.py --config-file n1.conf

What is in `<ipc dir>/fault`, {"at": a place, "times": how often}, is raised; the places of handlers are in `<ipc dir>/handlers`.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openstack_zeromq.address import Channel
from openstack_zeromq.cli import receiver as program
from openstack_zeromq.options import Settings
from openstack_zeromq.receiver.loop import Handler, Receiver

FAULT, HANDLERS = "fault", "handlers"


class InjectedError(Exception):
    """What nothing foresaw."""


class FaultyReceiver(Receiver):
    """As the shipped one, but for what is raised."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._fault = Path(settings.ipc_dir, FAULT)
        self.handlers = tuple(map(self._faulty, self.handlers))
        Path(settings.ipc_dir, HANDLERS).write_text(json.dumps([handler.name for handler in self.handlers]))
        node, links, guests = self._node, self._links, self._links.guests
        self._wrap(node, "peer_message", lambda _origin, message, _now: f"message of {message.header.source}")
        self._wrap(node, "peer_answers", lambda host, _entries, _now: f"answers of {host}")
        self._wrap(node, "client_message", lambda _client, message, *_: f"message to {message.header.topic}")
        self._wrap(node, "join", lambda channel, *_: f"join of {_topic(channel)}")
        self._wrap(links, "send", lambda action, _now: f"sending to {action.host}")
        self._wrap(guests, "_accepted", lambda _descriptor: "accepted")
        self._wrap(guests, "who", lambda *_: "who")
        self._wrap(self, "status", lambda: "status")
        if guests.gate is not None:
            self._wrap(guests.gate, "_answer", lambda _frames: "verdict")

    def _faulty(self, handler: Handler) -> Handler:
        def call(now: float) -> None:
            self._raise_at(handler.name)
            handler.call(now)

        return handler._replace(call=call)

    def _wrap(self, owner: Any, name: str, place: Callable[..., str]) -> None:
        method = getattr(owner, name)

        def wrapped(*arguments: Any, **more: Any) -> Any:
            self._raise_at(place(*arguments))
            return method(*arguments, **more)

        setattr(owner, name, wrapped)

    def _raise_at(self, place: str) -> None:
        if not os.path.exists(self._fault):
            return
        fault = json.loads(self._fault.read_text())
        if fault["at"] != place:
            return
        if fault["times"] > 1:
            write(self._fault.parent, place, fault["times"] - 1)
        else:
            self._fault.unlink()
        raise InjectedError(f"injected at {place}")


def write(ipc_dir: Path, place: str, times: int) -> None:
    """Have the receiver of `ipc_dir` fail at `place`, so many times."""
    made = ipc_dir / f"{FAULT}.new"
    made.write_text(json.dumps({"at": place, "times": times}))
    made.rename(ipc_dir / FAULT)


def _topic(channel: Channel) -> str:
    return channel.topic


if __name__ == "__main__":
    program.Receiver = FaultyReceiver  # type: ignore[misc]
    program.main(sys.argv[1:])
