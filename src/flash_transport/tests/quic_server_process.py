"""A server to be killed: echoes, and holds what says `hold`.

usage: quic_server_process.py PORT [CERTIFICATE_DIR]
"""

import sys

from flash_transport import QuicServer


def main():
    port, certificate_dir = int(sys.argv[1]), sys.argv[2] or None
    server = QuicServer("127.0.0.1", port, metadata={}, certificate_dir=certificate_dir)
    say(f"port {server.port}")
    held = []
    while (request := server.next_request()) is not None:
        if request.observation.get("hold"):
            held.append(request)
            say("holding")
        else:
            request.respond(request.observation)


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
