"""Store: what the matchmaker sees of Redis. Whoever registers also removes the hosts that expire, as soon as one does."""

import asyncio
import random
import re
from collections.abc import Awaitable
from typing import TypeVar

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from openstack_zeromq.errors import StoreError
from openstack_zeromq.matchmaker.base import Registration, Service
from openstack_zeromq.matchmaker.redis.client import Prospect, RedisClient
from openstack_zeromq.matchmaker.redis.following import Follower
from openstack_zeromq.matchmaker.store import Heard, Store, Wanted
from openstack_zeromq.options import REDIS_GROUP, Settings

_BURY_WITHIN = 0.5
_UNDERTAKERS = 20
"""How many nodes, of however many, try to bury the same dead."""
_LATEST_BEAT = 1.3

_REFUSALS = (AuthenticationError, AuthorizationError, NoPermissionError)
_REPEATED = ", with args beginning with"

_T = TypeVar("_T")


class RedisStore(Store):
    """Redis, Valkey, or the one that Sentinels name; made and used within one asyncio loop."""

    def __init__(self, settings: Settings) -> None:
        self._client = RedisClient(settings)
        self._secrets = [secret for secret in (settings.redis.password, settings.redis.sentinel_password) if secret]
        self._next_beat = settings.target_update * _LATEST_BEAT
        self._undertaker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._client.name

    async def follow(self, wanted: Wanted, heard: Heard) -> None:
        await self._guarded(Follower(self._client, wanted, heard).run())

    async def beat(self, registration: Registration) -> None:
        prospect = await self._guarded(self._client.beat(registration))
        self._attend(prospect)
        if prospect.rival:
            raise StoreError(
                f"{self.name}: another machine, at {prospect.rival}, registers as {registration.host}, too;"
                " give each an rpc_zmq_host of its own"
            )
        if prospect.broken:
            why = f"{self.name}: {'; '.join(prospect.broken)}; delete what is not ours, or let this user touch it"
            raise StoreError(why, unwritten=not prospect.renewed)

    async def services(self) -> list[Service]:
        return await self._guarded(self._client.services())

    async def close(self) -> None:
        if self._undertaker is not None:
            self._undertaker.cancel()
        await self._client.close()

    # private

    def _attend(self, prospect: Prospect) -> None:
        """Be there when the first host expires, if that is before the next beat; of many nodes, a few are enough."""
        chosen = random.random() < _UNDERTAKERS / max(prospect.hosts, 1)  # noqa: S311 - spreads work, guards nothing
        if prospect.first is None or prospect.first > self._next_beat or not chosen:
            return
        if self._undertaker is not None:
            self._undertaker.cancel()
        delay = prospect.first + random.uniform(0.02, _BURY_WITHIN)  # noqa: S311 - spreads work
        self._undertaker = asyncio.create_task(self._bury_after(delay))

    async def _bury_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            prospect = await self._guarded(self._client.bury())
        except StoreError:
            return  # the next beat will say what is wrong
        self._undertaker = None
        self._attend(prospect)

    async def _guarded(self, work: Awaitable[_T]) -> _T:
        """:raises StoreError: for whatever the library raises."""
        try:
            return await work
        except (RedisError, OSError, TimeoutError) as exc:
            remedy = _remedy(exc)
            why = f"{self.name}: {self._masked(_reason(exc))}{remedy}"
            raise StoreError(why, refused=bool(remedy), unwritten=isinstance(exc, ResponseError) and not remedy) from None
        except (ValueError, TypeError, LookupError) as exc:
            raise StoreError(f"{self.name}: answers what is none of ours: {self._masked(repr(exc))}") from None

    def _masked(self, text: str) -> str:
        """A server that knows no AUTH repeats what it was told, or the beginning of it."""
        text = text.partition(_REPEATED)[0]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _reason(exc: BaseException) -> str:
    """In a word where there is one: the library repeats where it is."""
    cause = exc.__cause__ or exc.__context__
    if isinstance(cause, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(exc, MasterNotFoundError):
        what, _, sentinels = str(exc).partition(" : ")  # each of which is shown with all that it is made of
        each = sorted(set(re.findall(r" - ([^<>]+?)(?:, <|$)", sentinels)))
        return " - ".join([what, *([", ".join(each)] if each else [])])
    return str(exc).rstrip(".") or ("it is silent" if isinstance(exc, TimeoutError) else type(exc).__name__)


def _remedy(exc: BaseException) -> str:
    """The options that let us in, where we are kept out; of the errors of Sentinels the library makes one text."""
    if isinstance(exc, _REFUSALS):
        return f"; see [{REDIS_GROUP}] username and password"
    if isinstance(exc, MasterNotFoundError) and any(refusal.__name__ in str(exc) for refusal in _REFUSALS):
        return f"; see [{REDIS_GROUP}] sentinel_username and sentinel_password"
    return ""
