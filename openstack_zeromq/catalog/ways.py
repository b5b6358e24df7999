"""Ways: how news reaches whoever acts on it: a command that is run, a webhook that is called.

A way tries once and raises when nobody took the news; `watch` decides when to try again.
"""

import asyncio
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import signal
import sys
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from openstack_zeromq.catalog.news import News
from openstack_zeromq.errors import ZeroMQError

WEBHOOK_WITHIN = 10.0
END_WITHIN = 10.0
"""Seconds that a command has after SIGTERM."""

SIGNATURE = "X-Hub-Signature-256"
CHANGE = "X-Zmq-Change"


class UndeliveredError(ZeroMQError):
    """Nobody took the news; the message says why."""


class Way(Protocol):
    """Takes news to somebody."""

    async def take(self, news: News) -> None:
        """:raises UndeliveredError: nobody took it."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program, run without a shell: the document on its standard input, the environment besides ours, its output on our
    standard error. It may take `within` seconds."""

    words: tuple[str, ...]
    within: float

    async def take(self, news: News) -> None:
        """Whoever cancels it ends the command."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.words,
                env={**os.environ, **news.environment()},
                stdin=asyncio.subprocess.PIPE,
                stdout=sys.stderr.fileno(),
                stderr=sys.stderr.fileno(),
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            raise UndeliveredError(f"{self.words[0]} cannot be run: {exc}") from None
        try:
            async with asyncio.timeout(self.within):
                await process.communicate(json.dumps(news.document()).encode())
        except TimeoutError:
            raise UndeliveredError(f"{self.words[0]} did not end within {self.within:g} s and was ended") from None
        finally:
            await _ended(process)
        if process.returncode:
            raise UndeliveredError(f"{self.words[0]} ended with status {process.returncode}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL to POST the document to; with a `secret` the body is signed (HMAC-SHA256), with a `bearer` it comes with a token."""

    url: str = field(repr=False)
    secret: bytes = field(default=b"", repr=False)
    bearer: str = field(default="", repr=False)

    async def take(self, news: News) -> None:
        document = news.document()
        body = json.dumps(document).encode()
        headers = {"Content-Type": "application/json", CHANGE: document["id"]}
        if self.secret:
            headers[SIGNATURE] = signature(self.secret, body)
        if self.bearer:
            headers["Authorization"] = f"Bearer {self.bearer}"
        try:
            await asyncio.to_thread(_post, self.url, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            where = urlsplit(self.url)  # a path or query may hold a token
            raise UndeliveredError(f"{where.scheme}://{where.hostname}: {exc or type(exc).__name__}") from None


@dataclass(frozen=True, slots=True)
class Printed:
    """A line of JSON on the standard output."""

    async def take(self, news: News) -> None:
        try:
            print(json.dumps(news.document()), flush=True)
        except OSError as exc:
            raise UndeliveredError(f"the standard output: {exc.strerror}") from None


def signature(secret: bytes, body: bytes) -> str:
    """As most receivers of webhooks check it."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End what still runs of the command, gently at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN):
                    await process.wait()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere becomes a GET without a body: rather an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """:raises OSError: nobody there takes it.
    :raises HTTPException: it is no HTTP server."""
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - http(s), see the command
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=WEBHOOK_WITHIN):  # nosec B310
        return
