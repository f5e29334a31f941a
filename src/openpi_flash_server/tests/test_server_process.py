"""`openpi-flash serve` as a process: its lines, its exit codes, its signals, its answers."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from server_fakes import WAIT
from server_process import health

from flash_transport import Disconnected, FlashTransportPolicy, QuicServer, WebsocketPolicy
from openpi_flash_server.serving.stop_signals import REPEAT

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

NULL = {"action": {"model_config_name": "null"}, "host": "127.0.0.1"}
READY = "Service ready (mode=action_only, slots=['action'])"


def with_free_ports(config):
    return {**config, "action_transport": {"websocket_port": 0, "quic_port": 0}}


def without_what_changes(line):
    line = re.sub(r"^\S+Z ", "", line)
    line = re.sub(r"seconds=\d+\.\d", "seconds=T", line)
    line = re.sub(r"(requests .*) seconds=\d+", r"\1 seconds=N", line)
    line = re.sub(r"_ms=\d+\.\d", "_ms=N", line)
    line = re.sub(r"sha256=[0-9a-f]{64}", "sha256=F", line)
    return re.sub(r"127.0.0.1:\d+", "127.0.0.1:P", line)


def test_the_start_says_each_stage_in_a_line_and_ends_in_service_ready(start, tmp_path):
    process = start(with_free_ports(NULL))
    assert process.wait_for("Service ready") == READY
    assert [without_what_changes(line) for line in process.lines] == [
        f"info    configuration read  file={tmp_path}/server.json mode=action_only",
        "info    listening  slot=action websocket=127.0.0.1:P quic=127.0.0.1:P "
        "certificate_sha256=F",
        "info    loading the action model  stage=loading model=null checkpoint=''",
        "info    action model loaded  seconds=T",
        "info    compiling the action model  stage=warming",
        "info    action model is warm  seconds=T",
        READY,
    ]


def test_both_transports_answer_and_sigterm_ends_with_code_0(start):
    process = start(with_free_ports(NULL))
    process.wait_for(READY)
    websocket_port, quic_port = process.ports()
    assert health(websocket_port) == (200, "OK\n")
    openpi = WebsocketClientPolicy("127.0.0.1", websocket_port)
    assert openpi.infer({"state": np.zeros(7)})["actions"].shape == (50, 32)
    openpi._ws.close()
    fingerprint = next(
        re.search(r"sha256=(\w+)", line) for line in process.lines if "sha256" in line
    )
    with FlashTransportPolicy("127.0.0.1", quic_port, server_fingerprint=fingerprint[1]) as policy:
        assert policy.get_server_metadata()["action_horizon"] == 50
        result = policy.infer({"state": np.zeros(7)}, timeout=WAIT)
    assert result["actions"].shape == (50, 32)
    assert result["actions"].dtype == np.float64
    np.testing.assert_allclose(result["actions"].ravel(), np.linspace(-1, 1, 1600), atol=1e-6)
    process.popen.send_signal(signal.SIGTERM)
    code, err = process.end()
    assert (code, err) == (0, "")
    stopping, websocket, quic, *last = [without_what_changes(line) for line in process.lines[-5:]]
    assert websocket.startswith("info    WebSocket closed  slot=action connections_accepted=1 ")
    assert quic.startswith("info    QUIC closed  slot=action connections_accepted=1 ")
    assert [stopping, *last] == [
        "info    stopping  signal=SIGTERM",
        "info    requests  slot=action seconds=N received=2 answered=2 superseded=0 refused=0 "
        "failed=0 queue_p50_ms=N queue_p99_ms=N infer_p50_ms=N infer_p99_ms=N",
        "info    stopped",
    ]


def test_the_fingerprint_outlives_a_restart(start):
    found = []
    for _ in range(2):
        process = start(with_free_ports(NULL))
        process.wait_for(READY)
        found += [line for line in process.lines if "sha256" in line]
        process.popen.send_signal(signal.SIGINT)
        assert process.end()[0] == 0
    fingerprints = {re.search(r"sha256=(\w+)", line)[1] for line in found}
    assert len(found) == 2
    assert len(fingerprints) == 1


def test_listening_beyond_this_machine_without_keys_is_said_loudly(start):
    process = start(with_free_ports({**NULL, "host": "0.0.0.0"}))
    process.wait_for(READY)
    warnings = [without_what_changes(line) for line in process.lines if " warning " in line]
    assert warnings == [
        "warning INSECURE: listening beyond this machine without api_keys, so everybody who "
        "reaches these ports can use this server; set api_keys or api_key_file, or host 127.0.0.1  "
        "host=0.0.0.0"
    ]


def test_a_file_of_keys_that_others_can_read_is_warned_about(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("s3cret\n")
    keys.chmod(0o644)
    process = start(with_free_ports({**NULL, "api_key_file": str(keys)}))
    process.wait_for(READY)
    (warning,) = [line for line in process.lines if " warning " in line]
    assert f"{keys} has mode 0644" in warning


def test_with_keys_there_is_no_such_warning_and_both_transports_want_them(start):
    process = start(with_free_ports({**NULL, "api_keys": ["s3cret"]}))
    process.wait_for(READY)
    assert not any(" warning " in line for line in process.lines)
    assert not any("s3cret" in line for line in process.lines)
    websocket_port, quic_port = process.ports()
    from websockets.exceptions import InvalidStatus

    from flash_transport import AuthenticationFailed

    with pytest.raises(InvalidStatus, match="401"):
        WebsocketClientPolicy("127.0.0.1", websocket_port)
    with (
        pytest.raises(AuthenticationFailed),
        FlashTransportPolicy("127.0.0.1", quic_port) as policy,
    ):
        policy.infer({}, timeout=WAIT)
    with FlashTransportPolicy("127.0.0.1", quic_port, api_key="s3cret") as policy:
        assert policy.infer({}, timeout=WAIT)["actions"].shape == (50, 32)


@pytest.mark.parametrize("field", ["websocket_port", "quic_port"])
def test_a_port_in_use_is_one_error_line_and_code_1(start, field):
    kind = socket.SOCK_STREAM if field == "websocket_port" else socket.SOCK_DGRAM
    with socket.socket(type=kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        ports = {"websocket_port": 0, "quic_port": 0, field: port}
        code, err = start({**NULL, "action_transport": ports}).end()
    assert code == 1
    assert err == (
        f"error: action_transport.{field}: cannot listen on 127.0.0.1 port {port}: "
        "another program listens there; stop it or choose another port\n"
    )


def test_a_host_that_is_not_here_is_one_error_line_and_code_1(start):
    code, err = start(with_free_ports({**NULL, "host": "203.0.113.7"})).end()
    assert code == 1
    assert err == (
        "error: action_transport.websocket_port: cannot listen on 203.0.113.7 port 0: "
        "cannot assign requested address\n"
    )


def test_a_host_without_address_is_one_error_line_and_code_1(start):
    code, err = start(with_free_ports({**NULL, "host": "no-such-host.invalid"})).end()
    assert code == 1
    assert err.startswith(
        "error: action_transport.websocket_port: cannot listen on no-such-host.invalid port 0: "
    )
    assert len(err.splitlines()) == 1


def test_a_missing_checkpoint_is_one_error_line_and_code_1(start, tmp_path):
    action = {"model_config_name": "pi05_sim_arm", "checkpoint_dir": str(tmp_path / "absent")}
    process = start(with_free_ports({**NULL, "action": action}))
    code, err = process.end()
    assert code == 1
    assert err.startswith("error: ")
    assert str(tmp_path / "absent") in err
    assert len(err.splitlines()) == 1
    assert not any("Traceback" in line for line in process.lines)


def test_a_state_directory_that_cannot_be_written_is_one_error_line_and_code_1(start, tmp_path):
    (tmp_path / "file").write_text("no directory")
    code, err = start(with_free_ports({**NULL, "state_dir": str(tmp_path / "file")})).end()
    assert code == 1
    assert err.startswith("error: state_dir: cannot keep the certificate: ")
    assert f"{tmp_path}/file" in err
    assert len(err.splitlines()) == 1


def test_a_certificate_that_the_operator_brings_is_served(start, tmp_path):
    with QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=tmp_path / "made") as made:
        fingerprint = made.fingerprint
    (pem,) = (tmp_path / "made").iterdir()
    process = start(with_free_ports({**NULL, "tls_certificate": str(pem), "tls_key": str(pem)}))
    process.wait_for(READY)
    assert any(f"certificate_sha256={fingerprint}" in line for line in process.lines)
    assert not (tmp_path / "openpi-flash").exists()


def test_a_certificate_that_cannot_be_read_is_one_error_line_and_code_1(start, tmp_path):
    absent = tmp_path / "absent.pem"
    files = {"tls_certificate": str(absent), "tls_key": str(absent)}
    code, err = start(with_free_ports({**NULL, **files})).end()
    assert code == 1
    assert err.startswith(f"error: tls_certificate: cannot read {absent}: ")
    assert len(err.splitlines()) == 1


def test_an_unknown_key_is_an_error_and_code_2(start):
    code, err = start({**NULL, "port": 8000}).end()
    assert code == 2
    assert "port: unknown key, known keys: " in err
    assert "Traceback" not in err


SLOW_PROGRAM = """
import sys
from openpi_flash_server.serving import loading
from openpi_flash_server.handlers import null_policy
from openpi_flash_server.serving import service
from openpi_flash_server.cli import app


class SlowPolicy(null_policy.NullPolicy):
    def warm_up(self):
        sys.stdin.readline()

    def infer(self, observation, controls=None):
        if "wait" in observation:
            print("inference runs", flush=True)
            sys.stdin.readline()
        return super().infer(observation, controls)


slow = loading.Loaders(policy=lambda settings: SlowPolicy(), planner=loading.load_planner)
service.Service.__init__.__defaults__ = (slow,)
app(prog_name="openpi-flash")
"""


@pytest.fixture
def start_slow(start, tmp_path):
    """Starts a server whose warm-up, and each observation with `wait`, take a line of stdin."""
    (tmp_path / "slow.py").write_text(SLOW_PROGRAM)
    return lambda: start(with_free_ports(NULL), program=[sys.executable, str(tmp_path / "slow.py")])


def test_while_it_warms_up_the_port_answers_503_with_the_reason(start_slow):
    process = start_slow()
    process.wait_for("compiling the action model")
    port, _ = process.ports()
    assert health(port) == (503, "warming up: compiling the action model\n")
    process.go_on()
    process.wait_for(READY)
    assert health(port) == (200, "OK\n")


def test_sigterm_while_it_warms_up_ends_it_with_code_0(start_slow):
    process = start_slow()
    process.wait_for("compiling the action model")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == (0, "")
    assert not any("Service ready" in line for line in process.lines)


@pytest.mark.parametrize("transport", ["websocket", "quic"])
def test_sigterm_lets_the_running_request_have_its_answer(start_slow, transport):
    process = start_slow()
    process.go_on()
    process.wait_for(READY)
    websocket_port, quic_port = process.ports()
    if transport == "quic":
        client = FlashTransportPolicy("127.0.0.1", quic_port)
    else:
        client = WebsocketPolicy("127.0.0.1", websocket_port)
    with client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.infer, {"wait": True}, WAIT)
        process.wait_for("inference runs")
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("stopping")
        process.go_on()
        assert answer.result(WAIT)["actions"].shape == (50, 32)
    assert process.end() == (0, "")


def test_signals_within_moments_are_one_and_the_running_request_has_its_answer(start_slow):
    process = start_slow()
    process.go_on()
    process.wait_for(READY)
    with (
        WebsocketPolicy("127.0.0.1", process.ports()[0]) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.infer, {"wait": True}, WAIT)
        process.wait_for("inference runs")
        process.popen.send_signal(signal.SIGTERM)
        process.popen.send_signal(signal.SIGINT)
        process.wait_for("stopping")
        process.go_on()
        assert answer.result(WAIT)["actions"].shape == (50, 32)
    assert process.end() == (0, "")


def test_a_second_signal_ends_it_at_once(start_slow):
    process = start_slow()
    process.go_on()
    process.wait_for(READY)
    with (
        WebsocketPolicy("127.0.0.1", process.ports()[0]) as client,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.infer, {"wait": True}, WAIT)
        process.wait_for("inference runs")
        process.popen.send_signal(signal.SIGINT)
        process.wait_for("stopping")
        # its inference waits for a line of stdin, whose end would be one
        end = time.monotonic() + WAIT
        while process.popen.poll() is None and time.monotonic() < end:
            process.popen.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(REPEAT / 5)
        assert process.end() == (128 + signal.SIGINT, "")
        with pytest.raises(Disconnected):
            answer.result(WAIT)


def full_pipe():
    """The end of a pipe that takes no more bytes, and the other, which must stay open."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return writing, reading


def full_disk():
    return os.open("/dev/full", os.O_WRONLY), os.open("/dev/null", os.O_RDONLY)


@pytest.mark.parametrize("output", [full_pipe, full_disk])
def test_a_log_that_nobody_takes_holds_up_neither_answers_nor_the_stop(tmp_path, output):
    """Stdout is there from the first line on; the ready line is among what is lost."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    ports = {"websocket_port": port, "quic_port": 0}
    config = {**NULL, "action_transport": ports, "state_dir": str(tmp_path / "state")}
    path = tmp_path / "server.json"
    path.write_text(json.dumps(config))
    stdout, other = output()
    command = [sys.executable, "-m", "openpi_flash_server", "serve", "--config", str(path)]
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)
    try:
        with WebsocketPolicy("127.0.0.1", port, connect_timeout=WAIT) as client:
            assert client.infer({"prompt": "x"}, WAIT)["actions"].shape == (50, 32)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
        os.close(stdout)
        os.close(other)
    assert (process.returncode, err) == (0, b"")
