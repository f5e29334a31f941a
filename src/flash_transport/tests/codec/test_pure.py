"""The half in Python against the compiled one, and the package where that is missing."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import websockets.sync.server
from hypothesis import given, settings
from hypothesis import strategies as st
from openpi_client import image_tools, msgpack_numpy

import flash_transport
from flash_transport import CodecError, NativeMissing, _native, pure

PACKAGE = Path(flash_transport.__file__).parent


def outcome(function, *arguments):
    """What came of a call, as something that compares: types, array bytes, the error's words."""
    try:
        return described(function(*arguments))
    except CodecError as error:
        return str(error)


def described(value):
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes(), value.flags.writeable)
    if isinstance(value, np.generic):
        return (type(value), value.dtype.str, value.tobytes())
    if isinstance(value, dict):
        return [(type(key), key, described(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [described(item) for item in value]
    return (type(value), repr(value))


MARKERS = st.sampled_from([b"__ndarray__", b"__npgeneric__", "__ndarray__", "__npgeneric__"])
PARTS = st.sampled_from(["data", "dtype", "shape", b"data", b"dtype", b"shape", "unit"])
DTYPES = st.sampled_from(
    [
        "<f4",
        ">f8",
        "|u1",
        "|b1",
        "<i2",
        "<U2",
        "|S3",
        "<M8[ns]",
        "<M8",
        "float32",
        "u2",
        "|O",
        "<c8",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-300, 300)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.binary(max_size=24)
    | DTYPES
    | st.lists(st.integers(0, 4), max_size=3)
)
TAGGED = st.builds(
    lambda marker, parts: {marker: True, **parts}, MARKERS, st.dictionaries(PARTS, LEAVES)
)
TREES = st.recursive(
    LEAVES | TAGGED,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5) | PARTS, inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(TREES)
def test_both_halves_make_the_same_of_any_message(tree):
    message = msgpack_numpy.msgpack.packb(tree)
    assert outcome(pure.unpackb, message) == outcome(_native.unpackb, message)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(st.data())
def test_both_halves_refuse_a_damaged_message_in_the_same_words(data):
    message = bytearray(msgpack_numpy.msgpack.packb(data.draw(TREES)))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(0, len(message)))])
    for damaged in (bytes(message), cut):
        assert outcome(pure.unpackb, damaged) == outcome(_native.unpackb, damaged)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.binary(max_size=300))
def test_both_halves_make_the_same_of_any_bytes(message):
    assert outcome(pure.unpackb, message) == outcome(_native.unpackb, message)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(TREES | st.sampled_from([2**64, [object()], {1: 2}, {"a": {b"b": [1j]}}, "\ud800"]))
def test_both_halves_pack_any_value_to_the_same_bytes_or_refuse_it_in_the_same_words(value):
    assert outcome(pure.packb, value) == outcome(_native.packb, value)


@pytest.mark.parametrize(
    "message",
    [
        # as many values as a message may have, and one more
        b"\xdd" + (2**18 - 1).to_bytes(4, "big") + b"\xc0" * (2**18 - 1),
        b"\xdd" + (2**18).to_bytes(4, "big") + b"\xc0" * 2**18,
        # as many maps, and one more
        b"\xdc" + (2**14 - 1).to_bytes(2, "big") + b"\x80" * (2**14 - 1),
        b"\xdc" + (2**14).to_bytes(2, "big") + b"\x80" * 2**14,
        b"\x91" * 64,
        b"\x91" * 65 + b"\xc0",
        b"\x82\xc4\x0b__ndarray__" + b"\x91" * 100_000 + b"\x90\xa0",
    ],
    ids=[
        "values",
        "too many values",
        "maps",
        "too many maps",
        "cut off at depth",
        "too deep",
        "deep and passed over",
    ],
)
def test_both_halves_have_the_same_limits(message):
    results = [outcome(half.unpackb, message) for half in (pure, _native)]
    assert results[0] == results[1]


def test_a_message_that_is_too_large_is_refused_unread():
    message = np.zeros((256 << 20) + 1, np.uint8)
    expected = "message has 268435457 bytes, at most 268435456 are allowed"
    assert outcome(pure.unpackb, message) == expected == outcome(_native.unpackb, message)


@pytest.mark.parametrize("size", [(480, 640), (424, 240), (1080, 1920), (333, 777), (64, 48)])
def test_images_are_resized_bit_for_bit_as_by_pil(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.array_equal(
        pure.resize_with_pad(image, 224, 224), image_tools.resize_with_pad(image, 224, 224)
    )


def test_both_halves_have_the_same_names():
    parts_of_the_policy = {"Completions", "PackedRequest", "TransportClient"}
    assert set(pure.__all__) == set(_native.__all__) - parts_of_the_policy | {
        "FlashTransportPolicy"
    }
    assert pure.__version__ == _native.__version__


@pytest.mark.parametrize("name", sorted(set(pure.__all__) - {"__version__"}))
def test_what_needs_the_compiled_half_says_how_to_get_it(name):
    thing = getattr(pure, name)
    if not isinstance(thing, type):
        return
    for error in (NativeMissing, ImportError):
        with pytest.raises(error, match=rf"{name} needs the compiled half.*pip install"):
            thing("10.0.0.5", 5555, metadata={})


@pytest.mark.parametrize("name", ["decode_image", "encode_jpeg", "jpeg_message"])
def test_encoded_images_need_the_compiled_half(name):
    with pytest.raises(NativeMissing, match=rf"{name} needs the compiled half"):
        getattr(pure, name)(b"")


# The package as it is where no wheel fits and nothing was built.


@pytest.fixture(scope="module")
def bare_package(tmp_path_factory):
    """A folder to import flash_transport from that has no compiled half."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(
        PACKAGE,
        folder / "flash_transport",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"),
    )
    return folder


def run(folder, program, **variables):
    environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )


def test_the_websocket_client_works_without_the_compiled_half(bare_package):
    received = []

    def talk(connection):
        connection.send(msgpack_numpy.packb({"model": "pi0"}))
        for frame in connection:
            received.append(frame)
            state = msgpack_numpy.unpackb(frame)["state"]
            connection.send(msgpack_numpy.packb({"actions": np.tile(state, (4, 1))}))

    program = """
import sys, numpy as np, flash_transport
with flash_transport.WebsocketPolicy("127.0.0.1", int(sys.argv[1])) as policy:
    answer = policy.infer({"state": np.arange(3, dtype="f4"), "prompt": "go"})
    print(flash_transport.implementation, policy.get_server_metadata(), answer["actions"].shape)
"""
    with websockets.sync.server.serve(talk, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        result = run(bare_package, program.replace("sys.argv[1]", repr(str(port))))
        server.shutdown()
        thread.join()
    assert result.stdout == "pure {'model': 'pi0'} (4, 3)\n", result.stderr
    assert received == [msgpack_numpy.packb({"state": np.arange(3, dtype="f4"), "prompt": "go"})]


def test_images_and_codec_work_without_the_compiled_half(bare_package):
    program = """
import numpy as np
from flash_transport import image_to_rgb, packb, resize_with_pad, unpackb
image = image_to_rgb(bytes(range(12)), height=2, width=2, step=6, encoding="bgr8")
print(resize_with_pad(image, 4, 4).shape, unpackb(packb({"a": image}))["a"].tolist()[0][0])
"""
    result = run(bare_package, program)
    assert result.stdout == "(4, 4, 3) [2, 1, 0]\n", result.stderr


def test_quic_without_the_compiled_half_says_what_is_missing(bare_package):
    program = 'import flash_transport; flash_transport.FlashTransportPolicy("10.0.0.5")'
    result = run(bare_package, program)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "flash_transport.errors.NativeMissing: FlashTransportPolicy needs the compiled half of "
        "flash_transport (No module named 'flash_transport._native'); "
    )
    assert "pip install flash_transport" in last
    assert "Rust 1.88" in last


def test_the_choice_of_a_half_can_be_forced(bare_package):
    program = "import flash_transport; print(flash_transport.implementation)"
    forced = {"FLASH_TRANSPORT_IMPLEMENTATION": "pure"}
    assert run(PACKAGE.parent, program, **forced).stdout == "pure\n"
    forced = {"FLASH_TRANSPORT_IMPLEMENTATION": "native"}
    assert run(PACKAGE.parent, program, **forced).stdout == "native\n"
    assert (
        "No module named 'flash_transport._native'" in run(bare_package, program, **forced).stderr
    )
    forced = {"FLASH_TRANSPORT_IMPLEMENTATION": "rust"}
    refused = run(PACKAGE.parent, program, **forced).stderr
    assert "FLASH_TRANSPORT_IMPLEMENTATION is 'rust', expected native or pure" in refused
