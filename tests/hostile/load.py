"""A process that loads a server with requests at a steady pace, as its standard input says.

A process of its own: packing a million maps would keep the interpreter from the bystander.
A line of JSON `{"host": ..., "port": ..., "request": ...}` begins a load, an empty line ends it.
Each is answered by a line: the first once an answer has come, the second with counts by error code.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections import Counter

from hostile import attacks

from flash_transport import FlashTransportPolicy, ServerError

PERIOD = 0.02
"""s from an answer to the next request: an attack sends as many as honest load."""


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def load(host, port, request, ended):
    message = getattr(attacks, request)()
    counts = Counter()
    with contextlib.closing(FlashTransportPolicy(host, port)) as client:
        while not ended.is_set():
            try:
                client.infer(message)
                counts["answered"] += 1
            except ServerError as error:
                counts[error.code] += 1
            if counts.total() == 1:
                say("begun")
            ended.wait(PERIOD)
    say(counts)


def main():
    running = ended = None
    for line in sys.stdin:
        if line.strip():
            ended = threading.Event()
            running = threading.Thread(target=load, kwargs=json.loads(line) | {"ended": ended})
            running.start()
        else:
            ended.set()
            running.join()


if __name__ == "__main__":
    main()
