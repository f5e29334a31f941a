"""docs/runbook.md's rotation of keys, with real processes: no request of a client is lost."""

import socket
import threading

import pytest
from server_process import Process

from flash_transport import AuthenticationFailed, FlashTransportPolicy

PATIENCE = 60.0
"""s for a request, which may have to wait for the start of a server on a busy machine."""


def free_ports():
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        return {"websocket_port": tcp.getsockname()[1], "quic_port": udp.getsockname()[1]}


@pytest.fixture
def restart(tmp_path):
    """Starts the server with these keys, after an orderly end of the one before."""
    ports = free_ports()
    keys = tmp_path / "keys"
    running = []

    def start(*lines):
        if running:
            server = running.pop()
            server.popen.terminate()
            code, _ = server.end()
            assert code == 0
        keys.write_text("".join(f"{line}\n" for line in lines))
        action = {"model_config_name": "null"}
        config = {"action": action, "action_transport": ports, "host": "127.0.0.1"}
        running.append(Process(tmp_path, {**config, "api_key_file": str(keys)}))
        running[0].wait_for("Service ready")
        return ports["quic_port"]

    yield start
    for server in running:
        server.kill()


class Robot:
    """Asks without pause until it is told to stop, or until a request fails."""

    def __init__(self, policy):
        self.answered = 0
        self.error = None
        self._policy = policy
        self._ended = False
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def wait_for_more(self, count):
        """Until so many more requests are answered, or one fails."""
        with self._progress:
            wanted = self.answered + count
            assert self._progress.wait_for(lambda: self.answered >= wanted or self._ended, PATIENCE)

    def stop(self):
        self._ended = True
        self._thread.join(PATIENCE)

    def _ask(self):
        while not self._ended:
            try:
                self._policy.infer({"prompt": "wave"}, timeout=PATIENCE)
            except Exception as error:
                self.error, self._ended = error, True
            with self._progress:
                self.answered += self.error is None
                self._progress.notify_all()


@pytest.mark.timeout(300)
def test_a_key_is_rotated_without_a_lost_request(restart, tmp_path):
    port = restart("old-key")
    known = {"known_servers": str(tmp_path / "known_servers"), "connect_timeout": PATIENCE}
    with FlashTransportPolicy("127.0.0.1", port, api_key="old-key", **known) as policy:
        robot = Robot(policy)
        robot.wait_for_more(5)
        restart("old-key", "new-key")
        robot.wait_for_more(5)
        # the certificate is the same, and both keys let in
        with FlashTransportPolicy("127.0.0.1", port, api_key="new-key", **known) as other:
            other.infer({"prompt": "wave"}, timeout=PATIENCE)
        robot.stop()
        assert robot.error is None
    restart("new-key")
    with FlashTransportPolicy("127.0.0.1", port, api_key="new-key", **known) as policy:
        policy.infer({"prompt": "wave"}, timeout=PATIENCE)
    with (
        pytest.raises(AuthenticationFailed),
        FlashTransportPolicy("127.0.0.1", port, api_key="old-key", **known) as policy,
    ):
        policy.infer({"prompt": "wave"}, timeout=PATIENCE)
