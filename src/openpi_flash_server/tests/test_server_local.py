"""The unix socket of a server, from its configuration to its end."""

import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from server_fakes import WAIT

from flash_transport import FlashTransportPolicy


@pytest.fixture
def path():
    # pytest's own folders are too deep for the path of a socket
    with tempfile.TemporaryDirectory(prefix="flash-") as directory:
        yield Path(directory) / "action.sock"


def config(path):
    transport = {"websocket_port": 0, "quic_port": 0, "unix_socket_path": str(path)}
    return {
        "host": "127.0.0.1",
        "action": {"model_config_name": "null"},
        "action_transport": transport,
    }


def test_a_client_on_the_same_computer_is_answered_through_the_socket(start, path):
    process = start(config(path))
    process.wait_for("Service ready")
    assert any(f" unix={path} " in line for line in process.lines), process.lines
    with FlashTransportPolicy(f"unix:{path}") as policy:
        assert policy.get_server_metadata()["action_horizon"] == 50
        answer = policy.infer({"state": np.zeros(7)}, timeout=WAIT)
        assert answer["actions"].shape == (50, 32)
        again = policy.submit({"state": np.zeros(7)}, timeout=WAIT).result(WAIT)
        assert again["server_timing"]["prev_total_ms"] > 0
        policy.reset()
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "")
    assert not path.exists()


def test_a_socket_of_another_server_is_left_alone_and_named(start, path):
    first = start(config(path))
    first.wait_for("Service ready")
    second = start(config(path))
    code, err = second.end()
    assert code == 1
    assert err == (
        f'error: action_transport.unix_socket_path: cannot listen on "{path}": '
        "another server listens there; stop it or choose another path\n"
    )
    with FlashTransportPolicy(f"unix:{path}") as policy:
        policy.infer({"state": np.zeros(7)}, timeout=WAIT)


def test_the_socket_of_a_killed_server_is_taken_over(start, path):
    first = start(config(path))
    first.wait_for("Service ready")
    first.popen.kill()
    first.popen.wait()
    assert path.exists()
    start(config(path)).wait_for("Service ready")
    with FlashTransportPolicy(f"unix:{path}") as policy:
        policy.infer({"state": np.zeros(7)}, timeout=WAIT)
