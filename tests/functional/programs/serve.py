"""serve MODE CONFIG_FILE TOPIC SERVER NAME: an RPC server until somebody casts `stop` to it."""

import sys

import service


def main() -> None:
    topic, server, name = sys.argv[3:]
    transport = service.rpc_transport()
    endpoint = service.Endpoint(name, service.client(transport, topic))
    running = service.serve(transport, topic, endpoint, server)
    service.say(serves=name)
    endpoint.stopped.wait()
    running.stop()
    running.wait()
    transport.cleanup()
    service.say(stopped=name)


if __name__ == "__main__":
    main()
