"""delivery: the promises, as pure state machines. Everything that changes the fate of a message lives here.

No sockets, no threads, no clock: a machine is told what happened and what time it is (seconds, monotonic), and returns
what is to be done. So a test can replay any loss, reordering, duplication or crash in milliseconds.

In the order a message meets them:

    outbox     in the sending service: every message until somebody has taken it
    outgoing   in its receiver: choosing a host, waiting for the answer, trying again, giving up
    link       in its receiver: is the peer there, and is it still the same incarnation
    incoming   in the consumer's receiver: queues, credit, one consumer or a copy for each
    inbox      in the consuming service: never hand out the same message twice

`node` joins outgoing, link and incoming to a whole receiver. What they lean on:

    whereabouts  which hosts may take a message
    seen       the memory behind "effectively once": what was taken, and can come again
    past       what is known from before a receiver's start
    channel    the queues of consumers, and their credit
    stranded   what nobody takes now, in order
    unknown    what waits for the matchmaker's first word on a topic
    pools      which pools listen where, and the copies for them
    origin     whose numbers messages have, and nobody else may use
    asked      which nodes may reply to a call
    calls      calls that are worked on; apology: the reply to those whose service died
    bounds     how much may wait for each target
    timers     which messages are due
    counters   the names of everything that is counted
"""
