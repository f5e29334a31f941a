"""A client to be killed: connects, says so, and waits; with `ask`, for an answer.

usage: quic_client_process.py PORT SESSION [ask]
"""

import signal
import sys

from flash_transport import FlashTransportPolicy


def main():
    port, session, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    policy = FlashTransportPolicy("127.0.0.1", port, session=session)
    policy.get_server_metadata()
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    if what == "ask":
        policy.infer({"from": session})
    signal.pause()


if __name__ == "__main__":
    main()
