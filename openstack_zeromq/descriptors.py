"""Descriptors: how many a process may still open, and whether that is enough for what it is about to do.

libzmq ends the whole process (SIGABRT) when it gets none for a context, or for a connection that comes in at a unix socket. So
it is asked for nothing while there are too few. A receiver needs one for each connection, and a few of its own: its limit is as
high as it may be, and coming close to it is said and counted."""

import os
import resource

from openstack_zeromq.errors import ShortOfDescriptorsError

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
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    os.close(lowest)
    return limit - lowest


def require(needed: int, what: str) -> None:
    """See that `needed` descriptors are to be had, for `what`.

    :raises ShortOfDescriptorsError: there are fewer.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # This itself opens one, and lists it.
        free = limit - len([name for name in os.listdir("/proc/self/fd") if int(name) < limit]) + 1
    except FileNotFoundError:  # no /proc
        free = left()
    except OSError:
        free = 0
    if free < needed:
        raise ShortOfDescriptorsError(
            f"{what} needs {needed} file descriptors and this process may open {max(free, 0)} more (limit {limit}):"
            " raise LimitNOFILE of its unit (ulimit -n), or look for what it leaves open"
        )
