"""Following: hear of every change of the topics that are wanted, over one connection, until it breaks.

A topic's changes are subscribed to, then it is read once. Every few seconds the generations are compared, too, for a connection
can be dead without knowing it.
"""

import asyncio
import random

from redis.exceptions import ResponseError

from openstack_zeromq.matchmaker.redis.changes import Followed, Outcome
from openstack_zeromq.matchmaker.redis.client import RedisClient, text
from openstack_zeromq.matchmaker.store import Heard, Wanted, ended

_COMPARE_EVERY = 5.0
_GATHER = 0.01


class Follower:
    """Follows topics over one connection, until it breaks."""

    def __init__(self, client: RedisClient, wanted: Wanted, heard: Heard) -> None:
        self._client = client
        self._wanted = wanted
        self._heard = heard
        self._topics: dict[str, Followed] = {}
        self._untold: set[str] = set()
        self._unread = asyncio.Event()
        self._pubsub = client.pubsub()

    async def run(self) -> None:
        """Until something goes wrong; the first error of any part ends all of them."""
        try:
            await self._pubsub.subscribe(self._client.key("changes"))
            tasks = [asyncio.create_task(part()) for part in (self._listen, self._keep_up, self._read, self._compare)]
            try:
                await asyncio.gather(*tasks)
            finally:
                await ended(tasks)
                for task in tasks:
                    if not task.cancelled():
                        task.exception()  # one has been raised already; that there were others is no news
        finally:
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _listen(self) -> None:
        """Hear changes; a server that is silent even when it is asked is away."""
        asked = False
        while True:
            message = await self._pubsub.get_message(timeout=self._client.patience)
            if message is None:
                if asked:
                    raise TimeoutError
                await self._pubsub.ping()
                asked = True
                continue
            asked = False
            self._heard.answers()
            if message["type"] == "pong":
                continue
            self._message(text(message["channel"]).removeprefix(self._channel("")), message["type"], message["data"])

    async def _keep_up(self) -> None:
        """Subscribe to what is wanted, and no longer to what is not."""
        while True:
            for topic in self._wanted:
                if topic not in self._topics:
                    self._topics[topic] = Followed(topic)
                    await self._pubsub.subscribe(self._channel(topic))
            for topic in [topic for topic in self._topics if topic not in self._wanted]:
                del self._topics[topic]
                await self._pubsub.unsubscribe(self._channel(topic))
            await self._wanted.changed()

    async def _read(self) -> None:
        """Read what was not read yet, or missed a change."""
        while True:
            await self._unread.wait()
            self._unread.clear()
            for topic, followed in list(self._topics.items()):
                if followed.subscribed and followed.mark is None:
                    await self._read_one(topic, followed)

    async def _read_one(self, topic: str, followed: Followed) -> None:
        """One that cannot be read stays what it was, and is tried again with the next comparison; it stops no other."""
        try:
            state = await self._client.read(topic)
        except (ResponseError, ValueError) as exc:
            if isinstance(exc, ResponseError) and "WRONGTYPE" not in str(exc):
                raise  # that is the store's trouble, not the topic's
            self._heard.unreadable(topic, f"{self._client.name}: {exc}; delete what is not ours")
            return
        for what in state.garbage:
            self._heard.garbage(what)
        for outcome in followed.read(state):
            self._note(topic, outcome)
        self._tell(topic)

    async def _compare(self) -> None:
        """Look whether a change was missed."""
        while True:
            await asyncio.sleep(_COMPARE_EVERY * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the nodes' questions
            self._unread.set()
            known = {topic: followed.mark for topic, followed in self._topics.items() if followed.mark is not None}
            if not known:
                continue
            marks = await self._client.marks(list(known))
            self._heard.answers()
            for (topic, before), mark in zip(known.items(), marks, strict=True):
                followed = self._topics.get(topic)
                if followed is not None and before == followed.mark != mark:
                    followed.again()
                    self._unread.set()

    def _message(self, topic: str, kind: str, data: bytes) -> None:
        followed = self._topics.get(topic)
        if followed is None:
            return
        if kind == "subscribe":
            followed.subscribed = True
            self._unread.set()
        elif kind == "message":
            self._note(topic, followed.change(data))

    def _note(self, topic: str, outcome: Outcome) -> None:
        """Tell what changed, many changes of a moment at once; read what missed one."""
        match outcome:
            case Outcome.APPLIED:
                if not self._untold:
                    asyncio.get_running_loop().call_later(_GATHER, self._tell_all)
                self._untold.add(topic)
            case Outcome.MISSED_ONE:
                self._unread.set()
            case Outcome.GARBAGE:
                self._heard.garbage(f"a message in {self._channel(topic)}")

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, set()
        for topic in untold:
            self._tell(topic)

    def _tell(self, topic: str) -> None:
        followed = self._topics.get(topic)
        reading = None if followed is None else followed.reading()
        if reading is not None:
            self._heard.reading(reading)

    def _channel(self, topic: str) -> str:
        return self._client.key(f"changes:{topic}")
