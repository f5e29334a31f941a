"""The unix socket as `docs/protocol.md` describes it, spoken by something that is not ours."""

import contextlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from quic_peers import LONG, Serving, echo, eventually

from flash_transport import FlashTransportPolicy, LocalServer, packb, unpackb

PAGE = Path(__file__).parents[4] / "docs" / "protocol.md"
PREFACE = b"openpi-flash/1\n"
MAIN = """
#include <cstdio>
int main(int, char** arguments) {
  Policy policy(arguments[1]);
  policy.reset();
  const std::string answer = policy.infer(std::string("\\x81\\xa1x\\xcd\\x01\\x00", 6));
  fwrite(answer.data(), 1, answer.size(), stdout);
}
"""


@contextlib.contextmanager
def asking(path, handle):
    """A policy of ours, whose requests come to `handle`."""
    with (
        Serving(LocalServer(path, metadata={}), handle),
        FlashTransportPolicy(f"unix:{path}") as policy,
    ):
        yield policy


@pytest.fixture
def path():
    # pytest's own folders are too deep for the path of a socket
    with tempfile.TemporaryDirectory(prefix="flash-") as directory:
        yield Path(directory) / "policy.sock"


def frame(number, message):
    return struct.pack("<II", len(message), number) + message


def connected(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(LONG)
    client.connect(str(path))
    return client


def received(client, count):
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, f"the server hung up after {data!r}"
        data += more
    return data


def answer_of(client):
    length, number = struct.unpack("<II", received(client, 8))
    message = received(client, length)
    return number, message[0], unpackb(message[1:])


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_the_client_of_the_page_compiles_and_is_answered(path, tmp_path):
    source = tmp_path / "client.cpp"
    example = re.search(r"```cpp\n(.*?)```", PAGE.read_text(), re.DOTALL)
    source.write_text(example[1] + MAIN)
    program = tmp_path / "client"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["c++", *flags, "-o", str(program), str(source)], check=True)
    with Serving(LocalServer(path, metadata={})):
        answer = subprocess.run([str(program), str(path)], check=True, stdout=subprocess.PIPE)
    assert unpackb(answer.stdout)["echo"] == {"x": 256}


def test_a_client_of_a_few_lines_is_answered(path):
    with Serving(LocalServer(path, metadata={"model": "pi05"})), connected(path) as client:
        client.sendall(PREFACE + frame(0, b"\x01" + packb({"session": "arm-7"})))
        assert answer_of(client) == (0, 0, {"model": "pi05"})
        client.sendall(frame(4, b"\x02" + packb({"state": 3})) + frame(9, b"\x03\x80"))
        answers = {number: rest for number, *rest in (answer_of(client), answer_of(client))}
        assert answers[4] == [0, {"echo": {"state": 3}, "session": "arm-7"}]
        assert answers[9][0] == 0


def test_garbage_is_told_off_and_costs_nobody_else_anything(path):
    rng = np.random.default_rng(0)
    with asking(path, echo) as policy:
        for size in (1, 15, 400, 100_000):
            with connected(path) as garbage:
                try:
                    garbage.sendall(rng.bytes(size))
                    garbage.shutdown(socket.SHUT_WR)
                    while garbage.recv(1 << 16):
                        pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
            with connected(path) as garbage:
                hello = frame(0, b"\x01\x80")
                try:
                    garbage.sendall(PREFACE + hello + rng.bytes(size))
                    garbage.shutdown(socket.SHUT_WR)
                    while garbage.recv(1 << 16):
                        pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
            assert policy.infer({"size": size}, timeout=LONG)["echo"] == {"size": size}


def test_a_map_that_is_none_is_a_bad_request_and_the_next_one_is_answered(path):
    with Serving(LocalServer(path, metadata={})), connected(path) as client:
        client.sendall(PREFACE + frame(0, b"\x01\x80") + frame(1, b"\x02\xc1"))
        assert answer_of(client)[0] == 0
        number, kind, error = answer_of(client)
        assert (number, kind, error["code"]) == (1, 1, "bad_request")
        client.sendall(frame(2, b"\x02\x80"))
        assert answer_of(client)[:2] == (2, 0)


def test_the_place_of_a_killed_client_is_free_at_once(path):
    taken = []
    with Serving(LocalServer(path, metadata={}), taken.append):
        program = (
            "import sys, flash_transport\n"
            "policy = flash_transport.FlashTransportPolicy('unix:' + sys.argv[1])\n"
            "policy.infer({})\n"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)]) as client:
            eventually(lambda: taken)
            assert f"pid={client.pid}," in taken[0].peer
            client.send_signal(signal.SIGKILL)
        eventually(lambda: taken[0].cancelled)


def test_arrays_of_an_observation_are_views_on_one_buffer(path):
    seen = []

    def keep(request):
        seen.append(request.observation)
        request.respond({})

    observation = {f"image_{index}": np.full((224, 224, 3), index, np.uint8) for index in range(3)}
    with (
        Serving(LocalServer(path, metadata={}), keep),
        FlashTransportPolicy(f"unix:{path}") as policy,
    ):
        policy.infer(observation)
    images = [seen[0][name] for name in observation]
    for image, sent in zip(images, observation.values(), strict=True):
        np.testing.assert_array_equal(image, sent)
        assert not image.flags.owndata
        assert image.base is images[0].base
        with pytest.raises(ValueError, match="WRITEABLE"):
            image.flags.writeable = True
    places = [image.__array_interface__["data"][0] for image in images]
    assert max(places) - min(places) < 3 * images[0].nbytes


def test_the_buffer_of_an_observation_that_is_gone_is_used_again(path):
    places = []

    def look(request):
        image = request.observation["image"]
        places.append(image.__array_interface__["data"][0])
        request.respond({})

    with (
        Serving(LocalServer(path, metadata={}), look),
        FlashTransportPolicy(f"unix:{path}") as policy,
    ):
        for _ in range(50):
            policy.infer({"image": np.zeros((224, 224, 3), np.uint8)})
    assert len(set(places)) <= 4
