"""The one hierarchy of errors that this package raises.

Each message says what is wrong, where, and what to do about it; a daemon prints it as its one last line.
"""


class ZeroMQError(Exception):
    """Base of everything below."""


class ConfigError(ZeroMQError):
    """An option, a path or an address cannot work; the message names the option."""


class RingError(ZeroMQError):
    """A ring file, or the data for one, breaks the format."""


class MalformedError(ZeroMQError):
    """Bytes from a peer that are no message of ours; `reason` is a short, countable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ShortOfDescriptorsError(ZeroMQError):
    """This process may not open enough files for what it is about to do; the message names the limit."""


class NotOursError(ZeroMQError):
    """A message that this process was given belongs to another one now; oslo.messaging then does not execute it."""


class NoReceiverError(ZeroMQError):
    """No receiver answers on this node."""


class ClosedReceiverError(NoReceiverError):
    """There is a receiver, but it answers others only."""


class KeyFileError(ZeroMQError):
    """A key, or the folder of those to trust, is missing or not as it must be; the message names the remedy."""


class StoreError(ZeroMQError):
    """A matchmaker's store does not answer, or not as it should; the message says which and why.

    `refused`: it is there and does not let us in; the message names the option that does. `unwritten`: it answered, but could not
    take a registration, so perhaps it takes nobody's."""

    def __init__(self, message: str, *, refused: bool = False, unwritten: bool = False) -> None:
        super().__init__(message)
        self.refused, self.unwritten = refused, unwritten
