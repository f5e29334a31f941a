"""A WebSocket server whose memory is watched: answers a request with as many bytes as it says.

usage: websocket_server_process.py MAX_MESSAGE_BYTES
"""

import sys

from flash_transport import FlashTransportError, WebsocketServer


def main():
    server = WebsocketServer("127.0.0.1", 0, metadata={}, max_message_bytes=int(sys.argv[1]))
    say(f"port {server.port}")
    while (request := server.next_request()) is not None:
        try:
            request.respond({"pad": bytes(request.observation.get("answer_bytes", 0))})
        except FlashTransportError:
            request.fail("bad_request", "this is no observation")


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
