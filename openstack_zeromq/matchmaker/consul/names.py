"""Names in Consul: topics, hosts and fabrics as parts of service names, IDs and keys. Pure.

Letters, digits and any of `_ . -` stand for themselves; every other byte of the UTF-8 is `~` and two hex digits, and so is a dot
at the beginning, for `.` and `..` are no names in a URL. `unescape` undoes it.
"""

import hashlib
import re

from openstack_zeromq.errors import MalformedError

_UNSAFE = re.compile(rb"^\.|[^A-Za-z0-9_.-]")
_ESCAPED = re.compile(rb"~([0-9a-f]{2})")


def escape(name: str) -> str:
    """`name` in characters that services, keys and URL paths bear."""
    return _UNSAFE.sub(lambda found: b"~%02x" % found[0][0], name.encode("utf-8", "surrogatepass")).decode()


def unescape(text: str) -> str:
    """:raises MalformedError: `escape` never made it."""
    try:
        name = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode()).decode()
    except UnicodeError:
        raise MalformedError("name") from None
    if escape(name) != text:
        raise MalformedError("name")
    return name


def instance_id(fabric: str, service: str, host: str) -> str:
    """The ID of what the receiver of `host` registers: Consul's catalog takes IDs that differ only in case for the same."""
    made = f"zmq:{fabric}:{escape(service)}:{escape(host)}"
    return made if made == made.lower() else f"{made}:{hashlib.sha256(made.encode()).hexdigest()[:8]}"
