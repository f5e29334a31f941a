"""Writes a few small valid inputs for each fuzz target, for libFuzzer to begin with.

usage: python seeds.py FOLDER      (makes FOLDER/message, FOLDER/request, ...)
"""

import hashlib
import hmac
import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from flash_transport import packb

ENCODINGS = 64
"""Not fewer than there are: a frame's first byte chooses one by its remainder."""


def messages() -> Iterator[bytes]:
    """Observations and answers: every kind of value, every dtype, what nests."""
    for dtype in ("?", "u1", "i1", "<u2", "<i4", "<i8", "<f2", "<f4", "<f8", ">f4"):
        yield packb({"state": np.zeros((2, 3), np.dtype(dtype))})
    yield packb({"image": np.zeros((2, 2, 3), np.uint8), "prompt": "go", "seed": 5})
    yield packb({"image": {"__image__": "jpeg", "data": b"\xff\xd8\xff\xe0"}})
    yield packb([None, True, -1, 1 << 40, 0.5, "ä", b"\x00", [], {}, [[[{}]]]])
    yield packb({"f": np.float32(1), "n": np.int64(-3), "empty": np.zeros((0, 4), np.float32)})


def requests() -> Iterator[bytes]:
    """The kind, then its map."""
    hello = {"client": "fuzz", "version": "1", "api_key": "k", "session": "arm"}
    yield b"\x01" + packb(hello)
    yield b"\x01" + packb({})
    yield b"\x02" + packb({"state": np.zeros(3, np.float32), "session": "arm", "deadline_ms": 5.0})
    yield b"\x03" + packb({"session": "arm"})
    yield b"\x01" + packb({"code": "bad_request", "message": "no"})


def repairs() -> Iterator[bytes]:
    """A message of one piece with a packet lost, whole and of two rows; repair is their sum."""
    rows = bytes(range(64)), bytes(range(100, 164))
    for parts in (rows[:1], rows):
        message = b"".join(parts)
        sums = bytes(np.bitwise_xor.reduce([np.frombuffer(row, np.uint8) for row in parts]))
        header = struct.pack(">BBHHIIQ", 1, 1, 1, 0, len(message), zlib.crc32(message), 0)
        datagram = b"\0" + struct.pack(">H", 86) + header + sums
        yield datagram
        yield datagram + b"\1" + struct.pack(">H", len(message)) + bytes(len(message))


def relay_datagrams() -> Iterator[bytes]:
    """Each kind, to the relay, the server and the client, with a tag where it has one."""
    key, end, cookie = b"0123456789abcdef0123456789abcdef", b"\1" * 8, bytes(16)
    address = b"\4\xc0\0\2\7\x9c\x40"
    for sender, message in (
        (1, b"\1\1\1" + end + cookie + b"\4lab1" + address),
        (None, b"\2" + end + cookie),
        (2, b"\3" + end + cookie + address),
        (2, b"\4" + end + cookie + address + b"\0"),
        (None, b"\5" + end + b"\4"),
        (None, b"\6" + end + bytes(40)),
        (0, b"\7" + end + bytes(8)),
        (0, b"\x08" + end + bytes(8)),
    ):
        signed = b"openpi-flash relay 1" + bytes([sender or 0]) + message
        tag = b"" if sender is None else hmac.digest(key, signed, "sha256")[:16]
        for choice in (0, 4, 5, 7):
            yield bytes([choice, len(message + tag)]) + message + tag


def websocket_handshakes() -> Iterator[bytes]:
    """What openpi's client sends, and a page's request."""
    yield (
        b"GET /chat?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: openpi-flash.1\r\nAuthorization: Api-Key k\r\n\r\n"
    )
    yield b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def websocket_frames() -> Iterator[bytes]:
    """Every opcode, and every form of a length."""
    for opcode in (0, 1, 2, 8, 9, 10):
        yield bytes([0x80 | opcode, 0x82, 1, 2, 3, 4, 5, 6])
    yield bytes([0x02, 0x80, 0, 0, 0, 0, 0x80, 0x80, 0, 0, 0, 0])
    yield struct.pack(">BBHI", 0x82, 0x80 | 126, 200, 0) + bytes(200)
    yield struct.pack(">BBQI", 0x82, 0x80 | 127, 70_000, 0) + bytes(100)


def camera_frames() -> Iterator[bytes]:
    """Header (encoding, height, width, step, bits of the sizes, byte order), then 4 rows of 8."""
    for encoding in range(ENCODINGS):
        for step in (8, 16, 24, 32):
            yield struct.pack("<BHHHBB", encoding, 4, 8, step, 16, encoding & 1) + bytes(4 * step)


def image_files() -> Iterator[bytes]:
    """JPEG in one pass and in several, gray and CMYK too; PNG of every kind."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    for mode, options in (
        ("RGB", {"quality": 50}),
        ("RGB", {"quality": 95, "subsampling": 0, "restart_marker_blocks": 1}),
        ("RGB", {"quality": 80, "progressive": True}),
        ("L", {}),
        ("CMYK", {}),
    ):
        yield _file(picture.convert(mode), "JPEG", **options)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        wide = Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
        yield _file(wide if mode == "I;16" else picture.convert(mode), "PNG")


def _file(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def main(folder: Path) -> None:
    """Every seed of every target, each under the hash of what it holds."""
    for target, seeds in (
        ("message", messages()),
        ("request", requests()),
        ("repair", repairs()),
        ("relay", relay_datagrams()),
        ("websocket_handshake", websocket_handshakes()),
        ("websocket_frames", websocket_frames()),
        ("camera_frame", camera_frames()),
        ("image_file", image_files()),
    ):
        (folder / target).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (folder / target / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
