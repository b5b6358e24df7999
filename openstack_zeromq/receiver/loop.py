"""The receiver's loop: read what is there, let the node decide, do what it says, let leave what has gathered, again.

One thread, one poller. What goes to services leaves before what goes to peers: a service that must send again after this
receiver was killed then knows to which host its message went.
"""

import contextlib
import fcntl
import math
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Container, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import zmq
from oslo_log import log as logging

from openstack_zeromq import descriptors, sockets
from openstack_zeromq.delivery.bounds import Bounds
from openstack_zeromq.delivery.channel import Hand
from openstack_zeromq.delivery.counters import Counter
from openstack_zeromq.delivery.incoming import CLIENT_BYTES, Joined, Reply, Respond
from openstack_zeromq.delivery.link import Close, Dial, LinkState, Ping
from openstack_zeromq.delivery.node import Action, Node
from openstack_zeromq.delivery.origin import RANDOM_BITS, origin
from openstack_zeromq.delivery.outgoing import NodeFacts, Send, Tell
from openstack_zeromq.delivery.past import Former
from openstack_zeromq.delivery.unconsumed import Note
from openstack_zeromq.errors import ConfigError
from openstack_zeromq.matchmaker.choose import matchmaker
from openstack_zeromq.options import GROUP, Settings
from openstack_zeromq.receiver.admin import Admin, Controls
from openstack_zeromq.receiver.dials import Dials
from openstack_zeromq.receiver.faults import Faults
from openstack_zeromq.receiver.hosts import Redialled, Refused
from openstack_zeromq.receiver.intake import Intake
from openstack_zeromq.receiver.links import Links
from openstack_zeromq.receiver.local import Local
from openstack_zeromq.receiver.me import Me
from openstack_zeromq.receiver.registry import Registry
from openstack_zeromq.receiver.report import Problems, Report
from openstack_zeromq.receiver.services import begun, given_up, remembered
from openstack_zeromq.receiver.trust_watch import TrustWatch
from openstack_zeromq.receiver.unit import Unit
from openstack_zeromq.security.identity import Identity, identity
from openstack_zeromq.security.trust_folder import TrustFolder
from openstack_zeromq.wire import MAJOR, MINOR

LOG = logging.getLogger(__name__)

_VERSION = version("openstack-zeromq")
_TICK = 0.05
_LOOK_EVERY = 0.5
_REMEMBER = 600.0
_STALL = 1.0
_SHOWN_DOWN = 3
"""Links that are down that the status line of the unit names; `zmqctl status` shows all."""


class Receiver:
    """The daemon. Everything is bound when the constructor returns.

    :raises ConfigError: something the options ask for is not to be had; the message names the remedy.
    :raises RingError: the ring cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._identity = identity(settings)
        self._trust_watch = None if self._identity is None else TrustWatch(self._identity.trust)
        self._reload_request = 0
        self._reloads = False
        self._started = time.monotonic()
        self._stopping = False
        self._draining_since: float | None = None
        self._survey_asked = False
        self._reload = self._asked_to_reload = False
        self._problems = Problems()
        self._lock, crashed = _lock_directory(settings.ipc_dir)
        self._matchmaker = matchmaker(settings)
        self._incarnation = secrets.randbits(63)
        bounds = Bounds(settings.topic_backlog, settings.backlog_size)
        facts = NodeFacts(
            settings.host,
            bounds,
            settings.message_ttl + _REMEMBER,
            lambda: random.uniform(0.8, 1.2),  # noqa: S311 - spreads retries, guards nothing
            settings.link_idle,
            settings.heartbeat,
            settings.redial,
        )
        own = origin(settings.host, secrets.randbits(RANDOM_BITS))
        self._node = Node(facts, self._matchmaker, self._started, self._former(), own)
        report = self._report = Report(self._node.counts)
        self._faults = Faults(report)
        if crashed:
            report.bad(Counter.CRASHES, f"process {crashed}", "the receiver before this one was killed, or ended by a fault")
        descriptors.raise_limit()
        self._context = sockets.context()
        me = Me(settings, self._node, report, self._faults, self._incarnation)
        self._links = Links(self._context, me, self._matchmaker, self._identity)
        self._local = Local(self._context, me)
        self._registry = Registry(self._matchmaker, self._node.incoming, self._matchmaker.former)
        self._dials = Dials(self._links, self._node.cannot_dial)
        self._admin = Admin(
            settings.ipc_dir, self._matchmaker, Controls(self.drain, self.survey, self._node.missing), self._faults
        )
        self._unit = Unit(self._one_line)
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._intakes: tuple[Intake[Any], ...] = tuple(
            Intake(source, me, self._do)
            for source in (self._local.joining, self._links.answers, self._links.messages, self._local.speech)
        )
        self.handlers = self._table()
        self._ended_well = False
        self._next_tick = self._next_look = self._turned = 0.0
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def run(self) -> None:
        """Serve until `stop`."""
        if self._identity is None:
            LOG.warning(
                "zmq_security = none: nothing on port %s is encrypted or authenticated; not for production",
                self._settings.port,
            )
        LOG.info(
            "receiver of node %s listens on %s port %s, channels below %s, matchmaker %s",
            self._settings.host,
            self._settings.bind_address,
            self._settings.port,
            self._settings.ipc_dir,
            self._settings.matchmaker,
        )
        poller = zmq.Poller()
        for handler in self.handlers:
            if handler.socket is not None:
                poller.register(handler.socket, zmq.POLLIN)
        self._matchmaker.start(self._look_now)
        if self._trust_watch is not None:
            self._trust_watch.start(self._look_now)
        self._turned = time.monotonic()
        while not self._stopping:
            with self._faults.contained("the loop"):
                self._turn(poller)
        LOG.info("receiver of node %s stops", self._settings.host)
        self._unit.stopping()
        self._ended_well = True

    def stop(self) -> None:
        """End `run` after the present pass; safe in a signal handler and from other threads."""
        self._stopping = True
        self._wake()

    def drain(self, begin: bool) -> None:
        """New work is left to other hosts, where there are any; `begin` false: no longer. Safe from other threads."""
        if begin != self._node.draining:
            self._draining_since = time.monotonic() if begin else None
            self._node.draining = begin
            LOG.info("receiver of node %s %s", self._settings.host, "drains" if begin else "takes new work again")

    def survey(self) -> None:
        """Have all nodes asked what they serve; safe from other threads."""
        self._survey_asked = True
        self._wake()

    def on_signals(self) -> None:
        """SIGTERM and SIGINT stop, SIGHUP looks at the ring and the keys at once; only in the main thread."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.stop()

        def reload(_signal: int, _frame: FrameType | None) -> None:
            self._asked_to_reload = True
            self._look_now()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)

    def close(self) -> bool:
        """Give back everything; what was not taken lives on with its senders, and what was registered with the store.

        Messages leave before the matchmaker ends, which may wait for a name server. False: it still waits.
        """
        self._local.flush(math.inf)
        self._links.flush(math.inf)
        ended = self._matchmaker.close()
        if self._trust_watch is not None:
            self._trust_watch.close()
        self._admin.close()
        self._links.close()
        self._local.close()
        self._context.term()
        self._wake_read.close()
        self._wake_write.close()
        if self._ended_well:
            os.ftruncate(self._lock, 0)
        os.close(self._lock)
        return ended

    def status(self) -> dict[str, Any]:
        """What the admin socket answers."""
        now = time.monotonic()
        node = self._node
        in_flight = node.outgoing.in_flight()
        return {
            "node": self._settings.host,
            "incarnation": f"{self._incarnation:016x}",
            "version": _VERSION,
            "wire": f"{MAJOR}.{MINOR}",
            "pid": os.getpid(),
            "uptime_s": round(now - self._started, 1),
            "matchmaker": {
                "backend": self._settings.matchmaker,
                "problem": self._matchmaker.problem,
                **self._matchmaker.status(),
            },
            "security": self._security(),
            "services": len(node.clients),
            "unseen": self._local.unseen,
            "draining_s": None if self._draining_since is None else round(now - self._draining_since, 1),
            "links": {
                host: {
                    "state": link.state.value,
                    "in_flight": in_flight[host],
                    "address": self._links.hosts.address_of(host),
                    "since_s": round(now - link.since, 1),
                    "why": "" if link.state is LinkState.UP else link.why,
                }
                for host, link in sorted(node.links.items())
            },
            **self._local.channels_shown(),
            "outgoing": {"messages": node.outgoing.pending, "bytes": node.outgoing.pending_bytes},
            "unconsumed": [row._asdict() for row in node.outgoing.waiting()],
            "fanouts_to_nobody": node.outgoing.fanouts_to_nobody(),
            "unlisted": node.unlisted,
            "announced": {topic: list(hosts) for topic, hosts in sorted(node.outgoing.announced.topics.items())},
            "incoming": {"messages": node.incoming.in_hand},
            "faults": self._faults.problem(now),
            "counters": dict(node.counts),
        }

    # private

    def _security(self) -> dict[str, Any]:
        if self._identity is None or self._trust_watch is None:
            return {"mode": "none"}
        folder, now = self._identity.trust, time.monotonic()
        return {
            "mode": "curve",
            "public_key": self._identity.pair.public,
            "trusted_hosts": len(folder.trust.hosts),
            "trusted_keys": sum(map(len, folder.trust.hosts.values())),
            "trusted": folder.trust.digest,
            "problem": "; ".join(problem for problem in (self._identity.problem(now), self._trust_watch.problem(now)) if problem),
        }

    def _one_line(self) -> str:
        """What `systemctl status` shows."""
        node = self._node
        links = [link.state for link in node.links.values()]
        counts = f"{links.count(LinkState.UP)} of {len(links)} links up, {len(node.clients)} services"
        if self._draining_since is not None:
            counts += f", draining: {node.incoming.in_hand} messages for services here, {node.outgoing.pending} from them"
        down = [f"{host} ({link.why})" for host, link in node.links.items() if link.state is LinkState.DOWN]
        wrong = [self._problems.now] if self._problems.now else []
        if down:
            more = f" and {len(down) - _SHOWN_DOWN} more" if len(down) > _SHOWN_DOWN else ""
            wrong.append(f"no link to {', '.join(down[:_SHOWN_DOWN])}{more}")
        return f"{counts}; matchmaker {self._settings.matchmaker}: {'; '.join(wrong) or 'all is well'}"

    def _wake(self) -> None:
        """From any thread; a full pipe wakes, too."""
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"w")

    def _look_now(self) -> None:
        self._reload = True
        self._wake()

    def _survey_if_asked(self, now: float) -> None:
        if self._survey_asked:
            self._survey_asked = False
            self._do(self._node.survey(now), now)

    def _former(self) -> Former:
        """What the last receiver of this directory left behind."""
        ipc_dir = self._settings.ipc_dir
        return Former(remembered(ipc_dir), partial(begun, ipc_dir), partial(given_up, ipc_dir))

    def _table(self) -> "tuple[Handler, ...]":
        """What the loop does, in this order: read what is there, tick, look around, let leave what has gathered."""
        settings, store = self._settings, f"matchmaker {self._settings.matchmaker}"
        links, local, guests, gate = self._links, self._local, self._links.guests, self._links.guests.gate
        keys = (
            []
            if self._identity is None or self._trust_watch is None
            else [
                Handler(
                    "trusted keys",
                    partial(self._look_who_is_trusted, self._identity.trust, self._trust_watch),
                    every=_LOOK_EVERY,
                    party=settings.authorized_keys,
                ),
                Handler(
                    "the key of this node",
                    partial(self._look_at_own_key, self._identity),
                    every=_LOOK_EVERY,
                    party=settings.key_file,
                ),
            ]
        )
        return (
            *(Handler(intake.name, intake.work, intake.socket, waits=intake) for intake in self._intakes),
            Handler("ends of processes", local.ended, local.processes.fileno()),
            *([] if gate is None else [Handler("the gate", lambda _now: gate.answer(), gate.socket)]),
            Handler("connections of peers", lambda _now: guests.watch(), guests.monitor),
            Handler("refusals of peers", self._redial_refused, links.hosts.refusals),
            Handler("the admin socket", self._answer_admin, self._admin.socket.fileno()),
            Handler("wakes", lambda _now: self._woken(), self._wake_read.fileno()),
            Handler("dials", lambda _now: self._dials.work()),
            Handler("delivery", self._tick_node, every=_TICK),
            Handler("channels", local.tick, every=_TICK, party=settings.ipc_dir),
            Handler("surveys", self._survey_if_asked, every=_TICK),
            Handler("the registry", self._registry.tick, every=_TICK, party=store),
            Handler("descriptors", lambda _now: self._look_at_descriptors(), every=_LOOK_EVERY),
            Handler("reloads", self._begin_reload, every=_LOOK_EVERY),
            Handler("the matchmaker", self._look_at_matchmaker, every=_LOOK_EVERY, party=store),
            *keys,
            Handler("problems", self._look_at_faults, every=_LOOK_EVERY),
            Handler("departures to services", self._flush_services),
            Handler("departures to peers", self._flush_peers),
        )

    def _turn(self, poller: zmq.Poller) -> None:
        """One pass. What a handler raises is contained in it: the others are called all the same."""
        now = time.monotonic()
        if self._dials.waiting or any(intake.backlog for intake in self._intakes):
            due = now
        else:
            due = min(moment for moment in (self._next_tick, self._links.due, self._local.due) if moment is not None)
        ready = {handle for handle, _ in poller.poll(max(0, math.ceil((due - now) * 1000)))}
        now = time.monotonic()
        if now - self._turned > _STALL:
            why = f"its loop stood still for {now - self._turned:.1f} s; nothing was moved, and nobody let in"
            self._report.bad(Counter.STALLS, "this receiver", why)
        self._turned = now
        ticks, looks = now >= self._next_tick, now >= self._next_look or self._reload
        if ticks:
            self._next_tick = now + _TICK
        if looks:
            self._next_look = now + _LOOK_EVERY
            self._reload = False
        for handler in self.handlers:
            if handler.due(ready, ticks, looks):
                try:
                    handler.call(now)
                except Exception as exc:  # of any kind: the loop goes on, and the watchdog ends what cannot be mended
                    self._faults.happened(handler.name, handler.party, exc)
        self._unit.turned(now, beat=not self._faults.broken)

    def _redial_refused(self, now: float) -> None:
        for what in self._links.hosts.refused():
            match what:
                case Redialled():
                    self._do(self._node.peer_redialled(what.host, now), now)
                case Refused():
                    self._do(self._node.peer_refused(what.host, what.why, now), now)

    def _answer_admin(self, _now: float) -> None:
        if not self._admin.answer(self.status):
            self._report.bad(Counter.SHORT_OF_DESCRIPTORS, "the admin socket", "no descriptor, or no thread, for who asks")

    def _woken(self) -> None:
        self._wake_read.recv(4096)

    def _tick_node(self, now: float) -> None:
        self._do(self._node.tick(now), now)

    def _flush_services(self, now: float) -> None:
        """Who turns out to be gone leaves work for others: until there is none."""
        while actions := self._local.flush(now):
            self._do(actions, now)

    def _flush_peers(self, now: float) -> None:
        while actions := self._links.flush(now):
            self._do(actions, now)

    def _do(self, actions: Iterable[Action], now: float) -> None:
        """Carry out; what an action raises is a fault of the one it is meant for."""
        for action in actions:
            try:
                self._carry_out(action, now)
            except Exception as exc:  # of any kind: it concerns one peer or one service
                self._failed(action, exc, now)

    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case Send():
                self._links.send(action, now)
            case Joined():
                self._local.joined(action)
            case Hand():
                self._local.hand(action.consumer, action.message, now)
            case Tell():
                self._local.tell(action, now)
            case Respond():
                self._links.respond(action, now)
            case Reply():
                self._local.reply(action.client, action.message)
            case Dial():
                self._dials.add(action.host)
            case Ping():
                self._links.ping(action.host)
            case Close():
                self._dials.drop(action.host)
            case Note():
                self._report.say(*action)

    def _failed(self, action: Action, exc: Exception, now: float) -> None:
        match action:
            case Send() | Ping() | Dial() | Close():
                self._faults.happened("sending to peers", action.host, exc)
                self._links.break_off(action.host)
            case Respond():
                self._links.unanswerable(action.origin, exc)
            case Joined() | Hand():
                self._local.unsendable(action.consumer, exc)
            case Tell() | Reply():
                self._local.unsendable(action.client.to_bytes(CLIENT_BYTES, "big"), exc)

    # twice a second

    def _look_at_descriptors(self) -> None:
        if (left := descriptors.left()) < descriptors.RESERVE:
            self._report.bad(Counter.SHORT_OF_DESCRIPTORS, "this process", f"{left} descriptors left; raise LimitNOFILE")

    def _begin_reload(self, now: float) -> None:
        self._reloads = self._is_reload_due()
        if self._reloads:
            self._unit.reloading(now)

    def _look_at_matchmaker(self, now: float) -> None:
        if self._matchmaker.refresh():
            self._do(self._node.routes_changed(now), now)
        self._do(self._node.close_gone_links(self._matchmaker.is_node, now), now)
        self._problems.say("matchmaker", self._matchmaker.problem)
        if not self._matchmaker.alive:
            self._faults.give_up("the matchmaker's thread has ended")

    def _is_reload_due(self) -> bool:
        """Whether a reload was asked for, and can begin: with keys, once the thread has seen what was in their folder then."""
        asked, self._asked_to_reload = self._asked_to_reload, False
        if self._trust_watch is None:
            return asked
        if asked:
            self._reload_request = self._trust_watch.request()
        if not self._reload_request or not self._trust_watch.has_done(self._reload_request):
            return False
        self._reload_request = 0
        return True

    def _look_who_is_trusted(self, folder: TrustFolder, watch: TrustWatch, now: float) -> None:
        if folder.take():
            cut = self._links.trust_changed(folder.trust)
            LOG.info("keys of %s hosts are trusted now; cut off: %s", len(folder.trust.hosts), ", ".join(cut) or "nobody")
            for host in cut:
                self._do(self._node.peer_cut(host, "its key is not trusted here any more", now), now)
        self._links.guests.see_out()
        self._problems.say("keys", watch.problem(now))

    def _look_at_own_key(self, own: Identity, now: float) -> None:
        """Another key of this node counts once somebody asks to reload: not before all others can know it."""
        asked, self._reloads = self._reloads, False
        if asked and own.reread():
            cut = self._links.take_key(own.pair)
            LOG.info("the key of this node is %s now; all links are opened anew", own.pair.public)
            for host in cut:
                self._do(self._node.redial_peer(host, now), now)
        self._problems.say("key", own.problem(now))

    def _look_at_faults(self, now: float) -> None:
        self._problems.say("faults", self._faults.problem(now))


class Handler(NamedTuple):
    """One of the things that the loop does. `call` gets the time: when `socket` (or its descriptor) can be read, or something
    `waits` still; without a socket `every` so many seconds, or (0) in each pass. `party`: the file or store that it is about."""

    name: str
    call: Callable[[float], None]
    socket: Any = None
    every: float = 0.0
    waits: Intake[Any] | None = None
    party: str = ""

    def due(self, ready: Container[object], ticks: bool, looks: bool) -> bool:
        """Is it to be called in this pass?"""
        if self.socket is not None:
            return self.socket in ready or (self.waits is not None and self.waits.backlog)
        return not self.every or (ticks if self.every == _TICK else looks)


def _lock_directory(ipc_dir: str) -> tuple[int, str]:
    """Make the directory when it is missing, and be its only receiver; the lock ends with the process. The process that was so
    before, if it did not end well."""
    path = Path(ipc_dir)
    try:
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        lock = os.open(path / "receiver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigError(
            f"[{GROUP}] rpc_zmq_ipc_dir = {ipc_dir}: {exc.strerror}; make it a directory that this user may write"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            f"[{GROUP}] rpc_zmq_ipc_dir = {ipc_dir}: another receiver serves this directory; stop it or choose another"
        ) from None
    return lock, os.pread(lock, 32, 0).decode("ascii", "replace").strip()
