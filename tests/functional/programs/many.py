"""many MODE CONFIG_FILE COUNT [at-once]: COUNT RPC servers in one process, as neutron's agent has twelve. It stops them one after
the other, or all at once, when it is cast `stop`, cleans up, and says how long each took."""

import sys
import threading
import time

import service


def main() -> None:
    count, at_once = int(sys.argv[3]), "at-once" in sys.argv[4:]
    transport = service.rpc_transport()
    endpoint = service.Endpoint("many")
    begun = time.monotonic()
    servers = [service.serve(transport, f"topic-{number}", endpoint) for number in range(count)]
    service.say(started=time.monotonic() - begun)
    endpoint.stopped.wait()
    begun = time.monotonic()
    if at_once:
        threads = [threading.Thread(target=_end, args=(server,)) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for server in servers:
            _end(server)
    service.say(stopped=time.monotonic() - begun)
    begun = time.monotonic()
    transport.cleanup()
    service.say(cleaned_up=time.monotonic() - begun)


def _end(server: service.Any) -> None:
    server.stop()
    server.wait()


if __name__ == "__main__":
    main()
