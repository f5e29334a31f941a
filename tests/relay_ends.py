"""A server and a client at a relay, as processes that a test runs in networks of their own.

`relay_ends.py serve RELAY TOKEN_FILE` prints its certificate's fingerprint, echoes until a line
comes, and prints how many connections it has had. `relay_ends.py ask RELAY TOKEN_FILE FINGERPRINT`
sends a request for every line that comes, and prints how that ended.
"""

import sys
import threading

import numpy as np

from flash_transport import FlashTransportError, FlashTransportPolicy, QuicServer

NAME = "lab1"
IMAGE = np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3)
WAIT = 60.0


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def serve(relay, token_file):
    with QuicServer(
        "0.0.0.0",
        0,
        metadata={"model": "echo"},
        relay=relay,
        relay_name=NAME,
        relay_token_file=token_file,
    ) as server:

        def answer():
            while (request := server.next_request()) is not None:
                request.respond({"echo": request.observation})

        thread = threading.Thread(target=answer)
        thread.start()
        say(server.fingerprint)
        sys.stdin.readline()
        say(server.counters["connections_accepted"])
        server.close()
        thread.join()


def ask(relay, token_file, fingerprint):
    with FlashTransportPolicy(
        NAME,
        relay=relay,
        relay_token_file=token_file,
        server_fingerprint=fingerprint,
        connect_timeout=WAIT,
    ) as policy:
        say("connected")
        for line in sys.stdin:
            try:
                answer = policy.infer({"image": IMAGE, "number": line.strip()}, timeout=WAIT)
                whole = np.array_equal(answer["echo"]["image"], IMAGE)
                say("whole" if whole else "another answer")
            except FlashTransportError as error:
                say(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
