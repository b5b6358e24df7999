"""A receiver whose loop stands still for ever as soon as it gets SIGUSR1; its other threads go on."""

import signal
import threading
from types import FrameType

from openstack_zeromq import systemd
from openstack_zeromq.cli.receiver import main


def _stand_still(_signal: int, _frame: FrameType | None) -> None:
    systemd.notify("STUCK=1")
    threading.Event().wait()


signal.signal(signal.SIGUSR1, _stand_still)
main()
