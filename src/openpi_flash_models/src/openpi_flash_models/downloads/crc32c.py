"""CRC-32C (RFC 3720, section 12.1), the checksum that Google Cloud Storage keeps of every object.

The plain loop over bytes is too slow in Python for gigabytes. A block is cut into lanes whose
checksums are computed side by side and then joined: the checksum of data followed by n zero bytes
is a linear map of the checksum of the data. Without the usual inversions leading zeros do not
change a checksum, so they pad a short block.
"""

from __future__ import annotations

import base64

import numpy as np

_POLYNOMIAL = 0x82F63B78
_LANE, _LANES = 256, 4096
_BLOCK = _LANE * _LANES
_ONES = 0xFFFFFFFF

_Map = np.ndarray
"""[4, 256] uint32: what each byte of a checksum contributes to the mapped one."""


class Crc32c:
    """A running checksum."""

    def __init__(self) -> None:
        self._raw = 0
        self._length = 0

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes."""
        values = np.frombuffer(data, np.uint8)
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            self._raw = _after_zeros(self._raw, len(block)) ^ _raw_of(block)
            self._length += len(block)

    def value(self) -> int:
        """The checksum of everything so far."""
        return self._raw ^ _after_zeros(_ONES, self._length) ^ _ONES

    def digest(self) -> str:
        """As Google Cloud Storage writes it: base64, most significant byte first."""
        return base64.b64encode(self.value().to_bytes(4, "big")).decode()


def _raw_of(block: np.ndarray) -> int:
    if len(block) < _BLOCK:
        block = np.concatenate([np.zeros(_BLOCK - len(block), np.uint8), block])
    # two bytes at a time, one row per step
    words = np.ascontiguousarray(block.view("<u2").reshape(_LANES, _LANE // 2).T)
    raw = np.zeros(_LANES, np.uint32)
    for row in words:
        raw = (raw >> np.uint32(16)) ^ _WORD_TABLE[(raw ^ row) & np.uint32(0xFFFF)]
    power = _LANE.bit_length() - 1
    while len(raw) > 1:
        raw = _apply(_zeros(power), raw[0::2]) ^ raw[1::2]
        power += 1
    return int(raw[0])


def _after_zeros(raw: int, count: int) -> int:
    value = np.array([raw], np.uint32)
    power = 0
    while count:
        if count & 1:
            value = _apply(_zeros(power), value)
        count >>= 1
        power += 1
    return int(value[0])


def _apply(mapping: _Map, raw: np.ndarray) -> np.ndarray:
    result = mapping[0][raw & 0xFF]
    for i in range(1, 4):
        result = result ^ mapping[i][(raw >> (8 * i)) & 0xFF]
    return result


def _zeros(power: int) -> _Map:
    """The map of 2**power zero bytes."""
    while len(_MAPS) <= power:
        last = _MAPS[-1]
        _MAPS.append(np.stack([_apply(last, row) for row in last]))
    return _MAPS[power]


def _table() -> np.ndarray:
    values: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        feedback = np.where(values & np.uint32(1), np.uint32(_POLYNOMIAL), np.uint32(0))
        values = np.right_shift(values, np.uint32(1)) ^ feedback
    return values


def _one_zero() -> _Map:
    bytes_in_place = [np.arange(256, dtype=np.uint32) << np.uint32(8 * i) for i in range(4)]
    return np.stack([(raw >> 8) ^ _TABLE[raw & 0xFF] for raw in bytes_in_place])


def _word_table() -> np.ndarray:
    raw: np.ndarray = np.arange(2**16, dtype=np.uint32)
    for _ in range(2):
        raw = (raw >> np.uint32(8)) ^ _TABLE[raw & np.uint32(0xFF)]
    return raw


_TABLE = _table()
_WORD_TABLE = _word_table()
_MAPS: list[_Map] = [_one_zero()]
