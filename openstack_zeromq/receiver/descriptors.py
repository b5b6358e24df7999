"""Descriptors: a receiver needs one for each connection, and a few of its own. libzmq ends the process when a unix socket cannot
get one: so the limit is as high as it may be, and coming close to it is said and counted.
"""

import os
import resource

RESERVE = 64


def raise_limit() -> int:
    """Set the soft limit to the hard one; the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def limit() -> int:
    """How many descriptors there are altogether."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def left() -> int:
    """About how many descriptors there are to be had: the kernel gives out the lowest number that is free."""
    try:
        lowest = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    os.close(lowest)
    return limit() - lowest
