"""bootstrap MODE CONFIG_FILE COUNT: sends notifications before anybody listens, and is gone at once, like keystone-manage."""

import os
import sys

import oslo_messaging
import service


def main() -> None:
    notifier = oslo_messaging.Notifier(
        service.notification_transport(), "bootstrap", driver="messagingv2", topics=["early"], retry=-1
    )
    for number in range(int(sys.argv[3])):
        notifier.info({}, "identity.project.created", number)
    os._exit(0)  # not even atexit: what notify() returned from is the receiver's


if __name__ == "__main__":
    main()
