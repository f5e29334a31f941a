"""A server to be killed: echoes, holds what says `hold`, and writes down each `id` that it begins.

usage: quic_server_process.py PORT [CERTIFICATE_DIR [LEDGER]]
"""

import sys
from pathlib import Path

from flash_transport import QuicServer


def main():
    port, certificate_dir, ledger = int(sys.argv[1]), sys.argv[2] or None, sys.argv[3]
    server = QuicServer("127.0.0.1", port, metadata={}, certificate_dir=certificate_dir)
    say(f"port {server.port}")
    held = []
    while (request := server.next_request()) is not None:
        if ledger:
            with Path(ledger).open("a") as file:
                file.write(f"{request.kind} {request.observation.get('id', '')}\n")
        if request.observation.get("hold"):
            held.append(request)
            say("holding")
        elif request.kind == "reset":
            request.respond({})
        else:
            request.respond(request.observation)


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
