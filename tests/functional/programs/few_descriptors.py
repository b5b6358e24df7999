"""few_descriptors MODE CONFIG_FILE TOPIC LEFT: sends while only LEFT descriptors are to be had, then with enough of them."""

import os
import resource
import sys

import oslo_messaging
import service

TRIES = 100


def main() -> None:
    topic, left = sys.argv[3], int(sys.argv[4])
    client = service.client(service.rpc_transport(), topic, retry=0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if service.MODE == "eventlet":
        service.eventlet.sleep(0)  # the hub has its descriptor
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, hard))
    errors, counts = [], []
    for _ in range(TRIES):
        try:
            client.cast({}, "echo", what="not sent")
        except oslo_messaging.MessageDeliveryFailure as exc:
            errors.append(str(exc))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        counts.append(len(os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, hard))
    service.say(errors=len(errors), error=errors[-1], open_first=counts[0], open_last=counts[-1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    service.say(answer=client.call({}, "echo", what="sent"))


if __name__ == "__main__":
    main()
