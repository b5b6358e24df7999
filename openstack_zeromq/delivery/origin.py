"""Origin: who numbers messages. Each stream of messages has its own, 64 bits of which the upper 24 follow from the name of its
node. So a receiver that knows which node speaks also knows which numbers are that node's: nobody can use up, or answer for, the
numbers of another.
"""

import hashlib
from functools import lru_cache

RANDOM_BITS = 40


def origin(node: str, random: int) -> int:
    """The origin of a stream of `node`, of which the lower `RANDOM_BITS` are those of `random`."""
    return _mark(node) << RANDOM_BITS | random & (1 << RANDOM_BITS) - 1


def is_of(origin_: int, node: str) -> bool:
    """Is this an origin of `node`? One other name in 16 million has the same ones."""
    return origin_ >> RANDOM_BITS == _mark(node)


def sibling(origin_: int, name: str) -> int:
    """Another origin of the same node, always the same one for a `name`."""
    return origin_ ^ int.from_bytes(hashlib.sha256(name.encode()).digest()[: RANDOM_BITS // 8], "big")


@lru_cache(maxsize=16_384)
def _mark(node: str) -> int:
    return int.from_bytes(hashlib.sha256(node.encode()).digest()[:3], "big")
