"""impostor IPC_DIR UID GID CLIENT: a process of that user that says goodbye in the name of the service CLIENT (16 hex digits)."""

import ctypes
import os
import sys
import time

import zmq

from openstack_zeromq import address, wire
from openstack_zeromq.wire import Kind


def main() -> None:
    ipc_dir, uid, gid, client = sys.argv[1:]
    os.setgroups([])
    os.setegid(int(gid))
    os.seteuid(int(uid))
    ctypes.CDLL(None).setfsuid(0)
    context = zmq.Context()
    there = context.socket(zmq.DEALER)
    there.set(zmq.ROUTING_ID, bytes.fromhex(client) + b"evil")
    there.connect(f"ipc://{ipc_dir}/{address.RECEIVER_SOCKET}")
    there.send(wire.encode_control(Kind.LEAVE))
    time.sleep(1)
    context.destroy(linger=500)


if __name__ == "__main__":
    main()
