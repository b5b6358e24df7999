"""Lead: of threads that wait one reads, the others are woken, and the lead never gets lost."""

import queue
import threading
from collections.abc import Callable

from openstack_zeromq.driver.lead import Lead
from openstack_zeromq.driver.waiting import Mailbox, Waiter

WITHIN = 10.0


class World:
    """Things that come in, `read` by whoever leads; each is something to do."""

    def __init__(self) -> None:
        self.incoming: queue.Queue[Callable[[], None]] = queue.Queue()
        self.readers: set[int] = set()
        self._reading = threading.Lock()
        self.lead = Lead(self.read, lambda: self.incoming.put(lambda: None))

    def read(self, seconds: float) -> None:
        assert self._reading.acquire(blocking=False), "two read at once"
        try:
            self.readers.add(threading.get_ident())
            self.incoming.get(timeout=seconds)()
        except queue.Empty:
            return
        finally:
            self._reading.release()


def test_who_waits_alone_reads_for_himself() -> None:
    world = World()
    waiter = Waiter(world.lead)
    world.incoming.put(waiter.wake)
    assert waiter.wait(WITHIN)
    assert world.readers == {threading.get_ident()}
    assert not waiter.wait(0.01)


def test_many_threads_that_wait_all_get_what_is_theirs_while_only_one_reads() -> None:
    world = World()
    boxes: list[Mailbox[int]] = [Mailbox(world.lead) for _ in range(8)]
    got: list[list[int | None]] = [[] for _ in boxes]

    def wait(number: int) -> None:
        got[number] = [boxes[number].get(WITHIN) for _ in range(200)]

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(len(boxes))]
    for thread in threads:
        thread.start()
    for item in range(200):
        for box in boxes:
            world.incoming.put(lambda box=box, item=item: box.put(item))
    for thread in threads:
        thread.join(2 * WITHIN)
    assert got == [list(range(200))] * len(boxes)


def test_the_connections_own_thread_leads_when_nobody_else_does_and_makes_room_for_who_waits() -> None:
    world = World()
    done = threading.Event()
    own = threading.Thread(target=lambda: [world.lead.stand_by() for _ in iter(done.is_set, True)])
    own.start()
    seen = threading.Event()
    world.incoming.put(seen.set)
    assert seen.wait(WITHIN)
    box: Mailbox[str] = Mailbox(world.lead)
    for word in ("first", "second"):
        world.incoming.put(lambda word=word: box.put(word))
        assert box.get(WITHIN) == word
    done.set()
    world.lead.retire()
    own.join(WITHIN)
    world.lead.conclude()
    assert not box.get(0.01)
