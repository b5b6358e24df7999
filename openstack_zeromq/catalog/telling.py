"""Telling: after a change a command is run and a webhook is called, one change after the other; neither can hurt the sync.

Changes that come meanwhile are told as one.
"""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import tenacity
from oslo_log import log as logging

from openstack_zeromq.catalog.changes import changes, topics
from openstack_zeromq.catalog.shape import Published
from openstack_zeromq.catalog.sync import Written

LOG = logging.getLogger(__name__)

COMMAND_WITHIN = 60.0
WEBHOOK_WITHIN = 5.0
WEBHOOK_ATTEMPTS = 3

_SHOWN = 500
_NO_ANSWER = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Telling:
    """`command` is run without a shell; `webhook` is the URL to POST to; either may be empty."""

    ring: Path
    node: str
    command: tuple[str, ...] = ()
    webhook: str = ""

    async def tell(self, before: Published, after: Published) -> None:
        """Never raises: what fails is logged."""
        found = changes(before.ring, after.ring)
        if not found:
            return
        if self.command:
            await self._run(topics(found))
        if self.webhook:
            document = {
                "node": self.node,
                "generation": after.generation,
                "topics": {change.key: {"added": change.added, "removed": change.removed} for change in found},
            }
            try:
                await asyncio.to_thread(_post, self.webhook, json.dumps(document).encode())
            except (*_NO_ANSWER, ValueError) as exc:
                LOG.error("webhook %s failed %s times: %s", self.webhook, WEBHOOK_ATTEMPTS, exc)

    async def _run(self, changed: list[str]) -> None:
        environment = {**os.environ, "ZMQ_RING": str(self.ring), "ZMQ_RING_CHANGED_TOPICS": " ".join(changed)}
        with tempfile.TemporaryFile() as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except (OSError, ValueError) as exc:
                LOG.error("%s cannot be run: %s", self.command[0], exc)
                return
            try:
                status = await asyncio.wait_for(process.wait(), COMMAND_WITHIN)
            except (TimeoutError, asyncio.CancelledError) as exc:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
                if isinstance(exc, asyncio.CancelledError):
                    raise
                LOG.error("%s was killed: it did not end within %g s", self.command[0], COMMAND_WITHIN)
                return
            if status:
                output.seek(0, os.SEEK_END)
                output.seek(max(0, output.tell() - _SHOWN))
                said = " ".join(output.read().decode(errors="replace").split())
                LOG.error("%s ended with status %s: %s", self.command[0], status, said)


class Teller:
    """Tells in a task of its own, so that the sync does not wait."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self._before: Published | None = None
        self._after: Published | None = None
        self._task: asyncio.Task[None] | None = None

    def written(self, done: Written) -> None:
        """There is something to tell; what waits to be told becomes one change with it."""
        if self._before is None:
            self._before = done.before
        self._after = done.published
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tell())

    async def finish(self, within: float) -> None:
        """Let what is being told end, if it does in time."""
        if self._task is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._task, within)

    async def _tell(self) -> None:
        while self._before is not None and self._after is not None:
            before, after = self._before, self._after
            self._before = self._after = None
            await self._telling.tell(before, after)


@tenacity.retry(
    stop=tenacity.stop_after_attempt(WEBHOOK_ATTEMPTS),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
    retry=tenacity.retry_if_exception_type(_NO_ANSWER),
    reraise=True,
)
def _post(url: str, document: bytes) -> None:
    """:raises OSError: nobody there takes it.
    :raises HTTPException: it is no HTTP server."""
    request = urllib.request.Request(url, document, {"Content-Type": "application/json"})  # noqa: S310 - http(s), see the command
    with urllib.request.urlopen(request, timeout=WEBHOOK_WITHIN):  # noqa: S310  # nosec B310
        return
