"""as_user CONFIG_FILE UID GID WHAT TOPIC [walled]: a call, cast, notify, or listen (a server) of a process that the kernel knows
as that user.

It says {"answer": …} or {"error": …}; what its log says goes to stdout, too. It can still read all files (fsuid): the
tests' Python may lie where only root looks. `walled`: not any more once everything is imported, so modes of directories count.
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
    config_file, uid, gid, what, topic, *walled = sys.argv[1:]
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
    notifier = oslo_messaging.Notifier(
        oslo_messaging.get_notification_transport(conf, "zmq://"), "one", driver="messagingv2", topics=[topic], retry=1
    )
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=topic), timeout=3 if walled else 10, retry=1)
    server = oslo_messaging.get_rpc_server(transport, oslo_messaging.Target(topic=topic, server="n1"), [Endpoint()])
    if walled:
        ctypes.CDLL(None).setfsuid(int(uid))
    if what == "listen":
        server.start()
        time.sleep(60)
    try:
        if what == "notify":
            notifier.info({}, "event", {})
            answer = None
        else:
            answer = (client.call if what == "call" else client.cast)({}, "echo", what="hello")
        print(json.dumps({"answer": answer}), flush=True)
    except oslo_messaging.MessagingException as exc:
        print(json.dumps({"error": str(exc)}), flush=True)


if __name__ == "__main__":
    main()
