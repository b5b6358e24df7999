"""as_user CONFIG_FILE UID GID call|listen TOPIC: one call, or a server, of a process that the kernel knows as that user.

It says {"answer": …} or {"error": …}; what its log says goes to stdout, too. It can still read all files (fsuid): the tests'
Python may lie where only root looks.
"""

import ctypes
import json
import logging
import os
import sys
import time

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._metrics import client as metrics
from oslo_messaging._tracing import client as tracing


class Endpoint:
    def echo(self, _ctxt: dict[str, object], what: str) -> str:
        return what


def main() -> None:
    config_file, uid, gid, what, topic = sys.argv[1:]
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    os.setgroups([])
    os.setegid(int(gid))
    os.seteuid(int(uid))
    ctypes.CDLL(None).setfsuid(0)
    conf = cfg.ConfigOpts()
    conf.register_opts(metrics.oslo_messaging_metrics, group="oslo_messaging_metrics")
    conf.register_opts(tracing.oslo_messaging_tracing, group="oslo_messaging_tracing")
    conf(["--config-file", config_file], project="test")
    transport = oslo_messaging.get_rpc_transport(conf, "zmq://")
    if what == "listen":
        oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(topic=topic, server="n1"), [Endpoint()]).start()
        time.sleep(60)
    try:
        answer = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=topic), timeout=10).call(
            {}, "echo", what="hello"
        )
        print(json.dumps({"answer": answer}), flush=True)
    except oslo_messaging.MessagingException as exc:
        print(json.dumps({"error": str(exc)}), flush=True)


if __name__ == "__main__":
    main()
