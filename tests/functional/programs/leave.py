"""leave MODE CONFIG_FILE: forks children that use the transport and end in the ways in which services end.

One calls and is ended by `os._exit`, as oslo.service ends its children: nothing of Python runs then. One serves, stops its server
and ends so. One serves and returns. The last one is killed while it serves.
"""

import os
import signal
import sys
from collections.abc import Callable

import service


def main() -> None:
    transport = service.rpc_transport()
    client = service.client(transport, "there")

    def serve_and_stop() -> None:
        running = service.serve(transport, "forked", service.Endpoint("child", client))
        running.stop()
        running.wait()
        for _ in range(2):  # the second call leaves after what the stop had to tell, on the same connection
            client.call({}, "who")

    def serve() -> None:
        service.serve(transport, "forked", service.Endpoint("child", client))

    def kill() -> None:
        serve()
        os.kill(os.getpid(), signal.SIGKILL)

    ways: dict[str, tuple[Callable[[], object], Callable[[int], object]]] = {
        "called": (lambda: client.call({}, "who"), os._exit),
        "stopped": (serve_and_stop, os._exit),
        "returned": (serve, sys.exit),
        "killed": (kill, os._exit),
    }
    for way, (use, end) in ways.items():
        pid = os.fork()
        if not pid:
            use()
            end(0)
        os.waitpid(pid, 0)
        service.say(ended=way)


if __name__ == "__main__":
    main()
