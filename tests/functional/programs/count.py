"""count MODE CONFIG_FILE TOPIC NAME: an RPC server that says what it begins to execute, and needs 0.1 s for each, two at a
time."""

import sys
import time

import oslo_messaging
import service
from oslo_messaging.server import _pool_opts as pool_options


class Counting(service.Endpoint):
    """An endpoint that is busy for a while."""

    def work(self, _ctxt: object, number: int) -> int:
        service.say(ran=number)
        time.sleep(0.1)
        return number


def main() -> None:
    topic, name = sys.argv[3:]
    conf = service.configured()
    transport = oslo_messaging.get_rpc_transport(conf, "zmq://")
    conf.register_opts(pool_options)
    conf.set_override("executor_thread_pool_size", 2)
    endpoint = Counting(name)
    running = service.serve(transport, topic, endpoint, name)
    service.say(serves=name)
    endpoint.stopped.wait()
    running.stop()
    running.wait()
    transport.cleanup()


if __name__ == "__main__":
    main()
