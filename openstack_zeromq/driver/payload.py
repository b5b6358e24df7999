"""Payload: what a message body says. JSON, packed and unpacked only by the two ends of a conversation."""

from dataclasses import dataclass
from typing import Any

from oslo_messaging._drivers import common
from oslo_serialization import jsonutils

from openstack_zeromq.errors import MalformedError


@dataclass(frozen=True, slots=True)
class Request:
    """A call, cast or notification. `monitor`: seconds within which the caller wants signs of life; None: none."""

    context: dict[str, Any]
    message: dict[str, Any]
    monitor: float | None = None


def pack_request(context: dict[str, Any], message: dict[str, Any], monitor: float | None = None) -> bytes:
    """:raises TypeError, ValueError: something in it cannot be serialised."""
    body: dict[str, Any] = {"context": context, "message": message}
    if monitor:
        body["monitor"] = monitor
    return jsonutils.dump_as_bytes(body)


def unpack_request(body: bytes) -> Request:
    """:raises MalformedError: when it is no request."""
    facts = _load(body)
    try:
        return Request(facts["context"], facts["message"], facts.get("monitor"))
    except KeyError:
        raise MalformedError("body") from None


def pack_result(result: Any) -> bytes:
    """:raises TypeError, ValueError: the result cannot be serialised."""
    return jsonutils.dump_as_bytes({"result": result})


def pack_failure(failure: Any) -> bytes:
    """`failure` is what sys.exc_info() gave."""
    return jsonutils.dump_as_bytes({"failure": common.serialize_remote_exception(failure)})


def unpack_reply(body: bytes, allowed_remote_exmods: list[str]) -> Any:
    """The result; or the remote exception, raised.

    :raises MalformedError: when it is no reply.
    """
    facts = _load(body)
    if "failure" in facts:
        raise common.deserialize_remote_exception(facts["failure"], allowed_remote_exmods)
    try:
        return facts["result"]
    except KeyError:
        raise MalformedError("body") from None


def _load(body: bytes) -> dict[str, Any]:
    try:
        facts = jsonutils.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("body") from None
    if not isinstance(facts, dict):
        raise MalformedError("body")
    return facts
