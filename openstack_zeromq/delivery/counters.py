"""Every event that is counted rather than passed over, by the name that status and metrics show."""

from enum import StrEnum


class Counter(StrEnum):
    """What each counts stands beside it. A drop that has no name here does not exist."""

    ACCEPTED = "accepted"  # messages taken over from services of this node
    SENT = "sent"  # messages sent to peers, resends included
    RESENT = "resent"  # of these: sent before
    ARRIVED = "arrived"  # messages that came from peers
    DUPLICATES = "duplicates"  # arrived again, recognised, not delivered again
    HANDED = "handed"  # messages given to consumers of this node
    TAKEN = "taken"  # of these: confirmed by the consumer
    REQUEUED = "requeued"  # of these: given back by the consumer
    ORPHANED = "orphaned"  # of these: the consumer went away before it took them
    BUSY = "busy"  # refused for now: a queue was full
    NOROUTE = "noroute"  # nobody here listens, or nobody anywhere
    OVERFLOWED = "overflowed"  # notifications dropped in favour of newer ones: no listener consumes their topic
    FANOUTS_TO_NOBODY = "fanouts_to_nobody"  # fanouts that no host took: none is known, or no listener was there
    UNLISTED = "unlisted"  # topics that this node serves, and for which its ring does not list it
    EXPIRED = "expired"  # given up: time to live was over
    REJECTED = "rejected"  # refused for good
    STALE = "stale"  # copies meant for an incarnation that is no more; their senders send them again
    MALFORMED = "malformed"  # frames that are no message of ours
    FLOODED = "flooded"  # messages refused for now: too much of their peer, or service, waits here to be looked at
    UNANSWERABLE = "unanswerable"  # answers whose addressee had gone; the sender will ask again
    REFUSED_HANDSHAKES = "refused_handshakes"  # connections that did not speak ZMTP as we do
    REFUSED_KEYS = "refused_keys"  # connections whose key is not trusted, or that showed none
    REFUSED_BY_PEERS = "refused_by_peers"  # handshakes that a peer refused: one does not trust the other's key
    UNTRUSTED = "untrusted"  # hosts that were to be dialled and have no key that is trusted
    MISNAMED = "misnamed"  # messages in the name, or with a number, of another node than the one whose key the connection has
    CROWDS = "crowds"  # connections closed at once, for their address has zmq_connections_per_peer of them
    FORBIDDEN = "forbidden"  # what a service of this node may not do, by zmq_channel_acl
    STOLEN_SOCKETS = "stolen_sockets"  # moments in which a channel's socket was gone, or somebody else's
    EVICTED = "evicted"  # connections ended because their key is trusted no more
    DISCONNECTS = "disconnects"  # connections from peers that ended, for whatever reason
    UNREACHABLE = "unreachable"  # hosts whose address cannot be dialled
    PEERS_LOST = "peers_lost"  # links that fell silent
    ABANDONED = "abandoned"  # calls whose service died before it replied; their callers were told
    CLIENTS_LOST = "clients_lost"  # services that ended, or fell silent, while they listened or sent
    STALLS = "stalls"  # times that the loop stood still for more than a second, and with it the gate
    CRASHES = "crashes"  # 1: the receiver before this one was killed, by the watchdog perhaps, or ended by a fault
    UNWRITTEN = "unwritten"  # failed attempts to note down which services are connected
    SHORT_OF_DESCRIPTORS = "short_of_descriptors"  # moments with hardly a file descriptor left
    FAULTS = "faults"  # exceptions that nothing foresaw; each cost at most one party its connection
