"""Ending the tasks of a store."""

import asyncio
import contextlib

from openstack_zeromq.matchmaker.store import ended


async def _stubborn() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    await asyncio.sleep(60)


def test_a_task_that_swallows_its_cancellation_is_ended_all_the_same() -> None:
    async def scenario() -> bool:
        task = asyncio.create_task(_stubborn())
        await asyncio.sleep(0)
        await ended([task])
        return task.cancelled()

    assert asyncio.run(scenario())
