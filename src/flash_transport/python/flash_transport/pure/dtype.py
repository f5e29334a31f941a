"""The subset of numpy's `dtype.str` that the codec accepts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flash_transport.errors import CodecError

__all__ = ["Dtype", "parse_dtype", "quoted"]


@dataclass(frozen=True)
class Dtype:
    """A checked dtype string such as `<f4`, `|u1`, `<U5` or `<M8[ns]`.

    Attributes:
        text: the argument for `numpy.dtype`.
        kind: numpy's letter: one of b i u f U S M m.
        item_size: bytes of one element.
    """

    text: str
    kind: str
    item_size: int


def parse_dtype(text: str) -> Dtype:
    """Parses a `dtype.str`, also without byte order (`f4`), or a name of `numpy.dtype`.

    Raises:
        CodecError: another dtype; one of objects would have to be unpickled.
    """
    code = _NAMES.get(text, text)
    item_size = _item_size(code.removeprefix(code[:1]) if code[:1] in _BYTE_ORDERS else code)
    # numpy stores an item's size in a C int
    if item_size is None or item_size >= 1 << 31:
        # untrusted text must not flood a log
        raise CodecError(
            f"dtype {quoted(text[:32])} is not supported, "
            "expected a numpy dtype string of kind b, i, u, f, U, S, M or m"
        )
    return Dtype(code, code.lstrip("<>|=")[0], item_size)


def quoted(text: str) -> str:
    """Untrusted text between quotes, on one line."""
    return f'"{"".join(map(_escaped, text))}"'


def _item_size(code: str) -> int | None:
    kind, size = code[:1], code[1:]
    if size in _SIZES.get(kind, ()):
        return int(size)
    if kind in ("U", "S") and _DIGITS.fullmatch(size):
        return int(size) * (4 if kind == "U" else 1)
    if kind in ("M", "m") and _TIME.fullmatch(size):
        return 8
    return None


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return char if char.isprintable() else f"\\u{{{ord(char):x}}}"


_BYTE_ORDERS = ("<", ">", "|", "=")
_SIZES = {
    "b": ("1",),
    "i": ("1", "2", "4", "8"),
    "u": ("1", "2", "4", "8"),
    "f": ("2", "4", "8", "16"),
}
_DIGITS = re.compile(r"[0-9]{1,10}")
_TIME = re.compile(r"8(\[[0-9]{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
_NAMES = {
    "bool": "|b1",
    "int8": "|i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "|u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
