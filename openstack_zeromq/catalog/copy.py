"""Copy: the whole ring as one key of Consul, for fabrics of thousands of nodes: one node reads the catalog, all others this
key.

The key `<prefix>zeromq/<fabric>/ring` has ring and side-car, packed so that the same ring is the same bytes. One node publishes
at a time: who holds the key by its session; others stand by. Whoever takes the ring from there checks it against its sha256 and
believes it as it stands, for who published it has held what had to be held. A key that is missing, broken or empty changes
nothing.
"""

import asyncio
import base64
import binascii
import contextlib
import gzip
import json
import zlib

from oslo_log import log as logging

from openstack_zeromq.catalog import shape
from openstack_zeromq.catalog.disk import Disk
from openstack_zeromq.catalog.shape import Published
from openstack_zeromq.errors import RingError, StoreError, ZeroMQError
from openstack_zeromq.matchmaker import ring_file
from openstack_zeromq.matchmaker.base import Registration, Service
from openstack_zeromq.matchmaker.consul.client import Answer, Client
from openstack_zeromq.matchmaker.consul.keys import escape_path
from openstack_zeromq.matchmaker.holding import Mark, Reading
from openstack_zeromq.matchmaker.store import Heard, Store, Wanted
from openstack_zeromq.options import Settings

LOG = logging.getLogger(__name__)

MOST_BYTES = 512 * 1024
"""What Consul takes as one value."""

SESSION_TTL = 15
"""Seconds after which a publisher that died is replaced (Consul may take twice as long)."""

LOOK_EVERY = 5.0


class TooLargeError(ZeroMQError):
    """The packed ring does not fit into one key."""


def key_of(settings: Settings) -> str:
    """Where the ring of the fabric is, below /v1/kv/."""
    return f"{escape_path(settings.consul.prefix)}zeromq/{settings.fabric}/ring"


def pack(ring: bytes, meta: bytes | None) -> bytes:
    """:raises TooLargeError: the ring is too large for a key."""
    document = {"ring": ring.decode(), "meta": "" if meta is None else meta.decode()}
    data = gzip.compress(json.dumps(document, sort_keys=True).encode(), mtime=0)
    if len(data) > MOST_BYTES:
        raise TooLargeError(
            f"the ring has {len(data)} bytes even when packed, and a key of Consul takes {MOST_BYTES}: publish fewer topics"
        )
    return data


def unpack(data: bytes) -> Published:
    """:raises RingError: it is not what `pack` made, or its ring is not the one that its side-car names."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        document = json.loads(unpacker.decompress(data, 2 * ring_file.MAX_BYTES))
        ring, meta = document["ring"].encode(), document["meta"].encode()
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise RingError(f"the published ring is not usable: {exc!r}") from None
    if meta and ring_file.load_meta(meta).get("sha256") != ring_file.sha256(ring):
        raise RingError("the published ring is not the one that its sha256 names")
    return shape.parse(ring, meta or None)


class Everybody(frozenset[str]):
    """All hosts that there may be."""

    def __contains__(self, _host: object) -> bool:
        return True


class CopyStore(Store):
    """The published ring as a store; it can only be read."""

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigError: a file of the TLS options is not what it should be."""
        self._client = Client(settings.consul)
        self._key = key_of(settings)

    @property
    def name(self) -> str:
        return f"{self._client.name} key {self._key}"

    async def follow(self, wanted: Wanted, heard: Heard) -> None:
        index = 0
        while True:
            answer = await self._client.read(f"kv/{self._key}", index=index)
            try:
                published, modified = self._published(answer)
            except StoreError:
                heard.canary(False)
                raise
            heard.answers()
            heard.canary(True)
            left = Everybody() if published.ring else ()
            remembered = shape.memory(published, wanted)
            for topic in wanted:
                members = remembered[topic].members if topic in remembered else {}
                heard.reading(Reading(topic, members, Mark("", modified), left, whole=False))
            index = max(1, answer.index) if answer.index >= index else 0

    def _published(self, answer: Answer) -> tuple[Published, int]:
        """:raises StoreError: there is no ring in it."""
        try:
            entry = (answer.content or [])[0]
            return unpack(base64.b64decode(entry["Value"] or "")), int(entry["ModifyIndex"])
        except IndexError:
            raise StoreError(f"{self.name}: nobody has published a ring there; zmqctl ring sync --watch --publish does") from None
        except (RingError, binascii.Error, KeyError, TypeError, ValueError) as exc:
            raise StoreError(f"{self.name}: {exc}") from None

    async def beat(self, registration: Registration) -> None:
        raise StoreError(f"{self.name}: nothing can be registered there")

    async def services(self) -> list[Service]:
        raise StoreError(f"{self.name}: a ring does not know who is alive")

    async def close(self) -> None:
        await self._client.close()


class Publisher:
    """Puts what is on `disk` into the key, when nobody else does."""

    def __init__(self, settings: Settings, disk: Disk) -> None:
        """:raises ConfigError: a file of the TLS options is not what it should be."""
        self._client = Client(settings.consul)
        self._key, self._node, self._disk = key_of(settings), settings.host, disk
        self._session = ""
        self._there = b""
        self._said = ""
        self._due = asyncio.Event()

    def written(self) -> None:
        """There is a new ring on the disk."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled; what is wrong is said once."""
        while True:
            self._due.clear()
            try:
                self._say(await self.publish())
            except (ZeroMQError, OSError) as exc:
                self._say(str(exc))
            except Exception as exc:  # the sync must outlive whatever a store can think of
                LOG.exception("publishing failed")
                self._say(f"{type(exc).__name__}: {exc}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), LOOK_EVERY)

    async def publish(self) -> str:
        """Put the ring into the key unless it is there; empty, or who publishes instead.

        :raises StoreError: Consul does not answer.
        :raises TooLargeError: the ring is too large.
        :raises RingError: there is no ring on the disk.
        """
        await self._keep_session()
        data = pack(*self._disk.contents())
        if data == self._there and await self._published() == data:
            return ""
        if await self._client.put(f"kv/{self._key}", data, acquire=self._session):
            self._there = data
            LOG.info("published the ring in %s: %s bytes", self._key, len(data))
            return ""
        self._there = b""
        return f"another node publishes the ring in {self._key}: this one stands by"

    async def _published(self) -> bytes:
        """What is in the key, whoever wrote it: a lock of Consul keeps out only those who ask for it."""
        content = (await self._client.read(f"kv/{self._key}", leader=True)).content
        try:
            return base64.b64decode(content[0]["Value"] or "")
        except (TypeError, LookupError, binascii.Error):
            return b""

    async def close(self) -> None:
        """Let another node publish at once."""
        with contextlib.suppress(StoreError):
            if self._session:
                await self._client.order(f"session/destroy/{self._session}")
        await self._client.close()

    async def _keep_session(self) -> None:
        """A session that is gone took our hold of the key with it."""
        if self._session and await self._client.order(f"session/renew/{self._session}") is not None:
            return
        wish = {"Name": f"zeromq ring of {self._node}", "TTL": f"{SESSION_TTL}s", "Behavior": "release", "LockDelay": "0s"}
        made = await self._client.order("session/create", wish)
        self._session, self._there = str(made["ID"]), b""

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            if what:
                LOG.warning("not published: %s", what)
