"""The stand-alone binary between QUIC and local sockets, with Python and C++ at its ends."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from quic_peers import LONG, Served, echo, eventually, free_udp_port

from flash_transport import (
    FlashTransportPolicy,
    LocalServer,
    ServerError,
    Superseded,
    UntrustedServer,
    packb,
)

ROOT = Path(__file__).parents[4]

pytestmark = [
    pytest.mark.skipif(not shutil.which("cargo"), reason="cargo is not installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def binary():
    """The program, built as far as it has changed."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "-p", "flash_transport", "--features", "binary"],
        check=True,
        cwd=ROOT,
    )
    return target / "debug" / "openpi-flash-transport"


@pytest.fixture
def folder():
    # pytest's own folders are too deep for the path of a socket
    with tempfile.TemporaryDirectory(prefix="flash-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def running(binary, *arguments):
    """The program from its first line on; it ends by SIGTERM, and well."""
    process = subprocess.Popen(
        [binary, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield line.strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@contextlib.contextmanager
def client(binary, folder, port, *arguments):
    socket = folder / "robot.sock"
    command = ["client", "--server-host", "127.0.0.1", "--server-port", port]
    command += ["--local-socket-path", socket, *arguments]
    with running(binary, *command):
        yield f"unix:{socket}"


@contextlib.contextmanager
def local_policy(path, handle=echo, metadata=None):
    """A policy that listens on a socket of its own."""
    with LocalServer(path, metadata=metadata or {"model": "local"}) as server:

        def serve():
            while (request := server.next_request()) is not None:
                handle(request)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server
        server.close()
        thread.join()


OBSERVATION = {"image": np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3), "n": 1}


def test_a_local_program_reaches_a_server_over_quic(binary, folder):
    with (
        Served(metadata={"model": "pi05"}) as served,
        client(binary, folder, served.port) as address,
        FlashTransportPolicy(address) as policy,
    ):
        assert policy.get_server_metadata() == {"model": "pi05"}
        answer = policy.infer(OBSERVATION, timeout=LONG)
        assert packb(answer["echo"]) == packb(OBSERVATION)
        policy.reset()


def test_a_robot_reaches_a_policy_on_a_local_socket(binary, folder):
    socket = folder / "policy.sock"
    arguments = ["--listen-host", "127.0.0.1", "--listen-port", 0, "--backend-socket-path", socket]
    with local_policy(socket), running(binary, "server", *arguments) as line:
        port = int(line.split("127.0.0.1:")[1].split(",")[0])
        fingerprint = line.split()[-1]
        with FlashTransportPolicy("127.0.0.1", port, server_fingerprint=fingerprint) as policy:
            assert policy.get_server_metadata() == {"model": "local"}
            answer = policy.infer(OBSERVATION, timeout=LONG)
            assert packb(answer["echo"]) == packb(OBSERVATION)
        with pytest.raises(UntrustedServer):
            FlashTransportPolicy("127.0.0.1", port, server_fingerprint="0" * 64)


def give_first_actions(request):
    chunk = np.arange(8.0).reshape(4, 2)
    if "first_actions" in request.observation:
        request.send_first_actions({"actions": chunk[: request.observation["first_actions"]]})
    request.respond({"actions": chunk})


def assert_first_actions(policy):
    policy.get_server_metadata()
    future = policy.submit({"n": 1}, LONG, first_actions=2)
    assert future.first_actions.result(LONG)["actions"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert len(future.result(LONG)["actions"]) == 4
    # taken from the whole answer they would cost as much
    assert future.stats.first_action_ms < future.stats.round_trip_ms
    assert len(policy.infer({}, LONG)["actions"]) == 4


def test_first_actions_come_through_both_halves(binary, folder):
    metadata = {"supports": ["first_actions"]}
    with (
        Served(give_first_actions, metadata=metadata) as served,
        client(binary, folder, served.port) as address,
        FlashTransportPolicy(address) as policy,
    ):
        assert_first_actions(policy)
    socket = folder / "policy.sock"
    arguments = ["--listen-host", "127.0.0.1", "--listen-port", 0, "--backend-socket-path", socket]
    with (
        local_policy(socket, give_first_actions, metadata),
        running(binary, "server", *arguments) as line,
    ):
        port = int(line.split("127.0.0.1:")[1].split(",")[0])
        with FlashTransportPolicy("127.0.0.1", port) as policy:
            assert_first_actions(policy)


def test_robots_keep_their_sessions_through_both_halves(binary, folder):
    with Served() as served, client(binary, folder, served.port) as address:
        sessions = set()
        for name in ("left", "right"):
            with FlashTransportPolicy(address, session=name) as policy:
                sessions.add(policy.infer({}, timeout=LONG)["session"])
    assert sessions == {"left", "right"}


def test_a_local_program_is_heard_from_the_port_that_was_chosen(binary, folder):
    port, peers = free_udp_port(), []

    def note(request):
        peers.append(request.peer.split("#")[0])
        echo(request)

    served = Served(note)
    with client(binary, folder, served.port, "--local-port", port) as address:
        for session in ("first", "restarted"):
            with FlashTransportPolicy(address, session=session) as policy:
                assert policy.infer({"x": 1}, timeout=LONG)["session"] == session
        with FlashTransportPolicy(address) as policy:
            policy.infer({}, timeout=LONG)
            with served:
                pass
            # the port is still the old connection's for a moment
            with Served(note, port=served.port):
                assert policy.infer({"x": 2}, timeout=LONG)["echo"] == {"x": 2}
    assert peers == [f"127.0.0.1:{port}"] * 4


def test_a_chosen_port_is_for_one_local_program_at_a_time(binary, folder):
    held = []
    arguments = ["--local-port", free_udp_port()]
    with (
        Served(held.append) as served,
        client(binary, folder, served.port, *arguments) as address,
        FlashTransportPolicy(address, session="left") as left,
        FlashTransportPolicy(address, session="right") as right,
    ):
        future = left.submit({})
        eventually(lambda: held)
        with pytest.raises(ServerError, match='not_ready: .* in use by session "left"'):
            right.infer({}, timeout=0.5)
        held[0].respond({"done": True})
        assert future.result(LONG) == {"done": True}
        future = right.submit({})
        eventually(lambda: len(held) == 2)
        held[1].respond({})
        assert future.result(LONG) == {}


def test_why_the_server_cannot_be_asked_is_said_once(binary, folder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        command = [binary, "client", "--server-host=127.0.0.1", "--local-port", str(port)]
        command += ["--local-socket-path", folder / "robot.sock", "--known-servers", folder / "k"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            line = process.stderr.readline().decode()
            with (
                FlashTransportPolicy(f"unix:{folder}/robot.sock", connect_timeout=1.0) as policy,
                pytest.raises(ServerError, match="not_ready"),
            ):
                policy.get_server_metadata()
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
    assert line.startswith("warning: cannot connect to 127.0.0.1:5555 within ")
    assert f": UDP port {port} of this computer is taken;" in line


@pytest.mark.parametrize("window", [2904, 32 << 20])
def test_a_first_flight_of_any_size_carries_requests(binary, folder, window):
    socket = folder / "policy.sock"
    flag = ["--initial-window-bytes", window]
    arguments = ["--listen-host=127.0.0.1", "--listen-port=0", "--backend-socket-path", socket]
    with (
        local_policy(socket),
        running(binary, "server", *arguments, *flag) as line,
        client(binary, folder, line.split("127.0.0.1:")[1].split(",")[0], *flag) as address,
        FlashTransportPolicy(address) as policy,
    ):
        answer = policy.infer(OBSERVATION, timeout=LONG)
        assert packb(answer["echo"]) == packb(OBSERVATION)


@pytest.mark.parametrize(
    ("code", "error"),
    [("bad_request", ServerError), ("internal", ServerError), ("superseded", Superseded)],
)
def test_an_error_of_the_server_comes_through_as_it_is(binary, folder, code, error):
    with (
        Served(lambda request: request.fail(code, "because")) as served,
        client(binary, folder, served.port) as address,
        FlashTransportPolicy(address) as policy,
        pytest.raises(error, match="because"),
    ):
        policy.infer({}, timeout=LONG)


def test_who_leaves_cancels_the_request_at_the_far_end(binary, folder):
    held = []
    with Served(held.append) as served, client(binary, folder, served.port) as address:
        policy = FlashTransportPolicy(address)
        future = policy.submit({})
        eventually(lambda: held)
        future.cancel()
        eventually(lambda: held[0].cancelled)
        policy.close()


def test_a_local_program_waits_for_a_server_that_starts_later(binary, folder):
    port = free_udp_port()
    with client(binary, folder, port) as address:
        with (
            FlashTransportPolicy(address, connect_timeout=0.3) as policy,
            pytest.raises(ServerError, match="not_ready"),
        ):
            policy.get_server_metadata()
        with Served(port=port), FlashTransportPolicy(address, connect_timeout=LONG) as policy:
            assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_a_robot_in_cpp_is_answered(binary, folder):
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    program = folder / "robot"
    source = ROOT / "examples" / "local_socket" / "robot.cpp"
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True
    )
    seen = []

    def act(request):
        seen.append(request.observation["state"].tolist())
        request.respond({"actions": np.zeros((2, 3), np.float32)})

    with Served(act) as served, client(binary, folder, served.port) as address:
        run = subprocess.run(
            [program, address.removeprefix("unix:")], check=True, capture_output=True, timeout=LONG
        )
    assert seen == [[0.0, 0.5, 1.0]]
    expected = packb({"actions": np.zeros((2, 3), np.float32)})
    assert run.stdout.endswith(b"bytes of msgpack\n" + expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["client", "--server-host", "gpu"], "--local-socket-path"),
        (["server"], "--backend-socket-path"),
        (["server", "--backend-socket-path", "/x", "--max-idle-timeout-secs", "0"], "1..=3600"),
        (["server", "--backend-socket-path=/x", "--initial-window-bytes=99"], "2904..=33554432"),
        (
            [
                "server",
                "--backend-socket-path=/x",
                "--initial-window-bytes=5000",
                "--dedicated-link",
            ],
            "cannot be used with",
        ),
        (
            ["client", "--server-host=gpu", "--local-socket-path=/no/such/folder/s"],
            "cannot listen on",
        ),
        (
            ["client", "--server-host=gpu", "--local-socket-path=/x", "--server-fingerprint=beef"],
            "64 hex digits",
        ),
    ],
)
def test_arguments_that_cannot_work_are_named(binary, arguments, message):
    run = subprocess.run([binary, *arguments], check=False, capture_output=True, text=True)
    assert run.returncode != 0
    assert message in run.stderr


TOKEN = "0123456789abcdef0123456789abcdef"


def token_file(folder, text, name="token"):
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def relay(binary, folder, *arguments):
    """A relay that knows lab1; its port."""
    tokens = token_file(folder, f"lab1 {TOKEN}\n", "tokens")
    command = ["relay", "--listen-host", "127.0.0.1", "--listen-port", 0, "--token-file", tokens]
    with running(binary, *command, *arguments) as line:
        yield int(line.split("127.0.0.1:")[1].split(";")[0])


def test_a_client_finds_a_server_at_a_relay_and_checks_its_certificate(binary, folder):
    token = token_file(folder, f"{TOKEN}\n")
    with relay(binary, folder) as port:
        at_relay = {"relay": f"127.0.0.1:{port}", "relay_token_file": token}
        with Served(metadata={"model": "pi05"}, relay_name="lab1", **at_relay) as served:
            trusted = served.server.fingerprint
            with FlashTransportPolicy(
                "lab1", **at_relay, server_fingerprint=trusted, connect_timeout=LONG
            ) as policy:
                assert policy.get_server_metadata() == {"model": "pi05"}
                answer = policy.infer(OBSERVATION, timeout=LONG)
                assert packb(answer["echo"]) == packb(OBSERVATION)
            with pytest.raises(UntrustedServer):
                FlashTransportPolicy(
                    "lab1", **at_relay, server_fingerprint="0" * 64, connect_timeout=LONG
                )
            events = served.server.next_client_events(LONG)
            relay_said = [(who, said) for kind, who, said, _ in events if kind == "relay"]
            (who, said) = relay_said[0]
            assert who == f"127.0.0.1:{port}"
            assert said.startswith("registered as lab1, seen at 127.0.0.1:")


def test_a_local_program_reaches_a_policy_through_a_relay(binary, folder):
    token = token_file(folder, TOKEN)
    policy_socket, robot_socket = folder / "policy.sock", folder / "robot.sock"
    with local_policy(policy_socket), relay(binary, folder) as port:
        at_relay = ["--relay", f"127.0.0.1:{port}", "--relay-token-file", token]
        server = ["server", "--listen-host", "127.0.0.1", "--listen-port", 0, *at_relay]
        server += ["--backend-socket-path", policy_socket, "--relay-name", "lab1"]
        with running(binary, *server) as line:
            robot = ["client", "--server-host", "lab1", "--local-socket-path", robot_socket]
            robot += [*at_relay, "--server-fingerprint", line.split()[-1]]
            with (
                running(binary, *robot),
                FlashTransportPolicy(f"unix:{robot_socket}", connect_timeout=LONG) as policy,
            ):
                answer = policy.infer(OBSERVATION, timeout=LONG)
                assert packb(answer["echo"]) == packb(OBSERVATION)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no token; write a name and its token on each line"),
        ("lab1 short\n", "line 1: relay token has 5 characters, expected 22 to 1024"),
        (f"lab1 {TOKEN}\nlab1 {TOKEN}\n", "line 2: lab1 has a token already, keep one"),
    ],
)
def test_a_relay_refuses_a_file_of_tokens_that_is_wrong(binary, folder, text, message):
    tokens = token_file(folder, text)
    command = [binary, "relay", "--token-file", tokens]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 1
    assert done.stderr == f"error: {tokens}: {message}{HINTS.get(text, '')}\n"


HINTS = {"lab1 short\n": ": make one with `openssl rand -hex 32`"}


def test_both_options_of_a_relay_are_needed(tmp_path):
    with pytest.raises(ValueError, match="give relay and relay_token_file together"):
        FlashTransportPolicy("lab1", relay="127.0.0.1")
    with pytest.raises(ValueError, match="relay token file .*: No such file"):
        FlashTransportPolicy("lab1", relay="127.0.0.1", relay_token_file=tmp_path / "absent")
    with pytest.raises(ValueError, match='relay: host "a b" holds a space'):
        FlashTransportPolicy("lab1", relay="a b", relay_token_file=token_file(tmp_path, TOKEN))
    with pytest.raises(ValueError, match="give relay, relay_name and relay_token_file together"):
        Served(relay="127.0.0.1")
