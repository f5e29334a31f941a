"""The demo's tokenizer: a SentencePiece model of some robot words, written by hand.

It has what PaliGemma's has and the models rely on: pad 0, eos 1, bos 2, unk 3, a newline that is
one piece, byte fallback. Every bin number of a state (``" -1"`` to ``" 255"``) is one piece, so
that the seven numbers of a state are the seven tokens before ``";"``.
"""

from __future__ import annotations

import string
import struct

WORD_START = "\u2581"
NEWLINE = "\n"
EOS_ID = 1
NUMBERS = range(-1, 256)
_VOCABULARY = """
a above and arm away back ball banana basket behind below beside between bin block blue bottle
bowl box brown camera carefully center close cloth coffee container corner counter cube cup cut
cylinder dish door down drawer drop edge empty far fold for forward from front fruit fully
gently grab grasp gray green grip gripper hand handle hold home in insert inside into it item
joint knife last left lid lift little look lower make middle mount move mug near next object of
off on onto open orange out over part pen pick pink place plate point pour press pull push put
raise reach red release retract right rinse rotate round scene shelf shirt side sink slide
slowly small spoon sponge square stack start steady stir stop subtask swap table take task tape
target the then throw to top touch towel toward tower toy transfer tray turn twist uncap under
unfold up wait white wipe with wood wrist yellow
"""
WORDS = tuple(_VOCABULARY.split())
# As they stand in a prompt, without a space before them.
_MARKERS = ("Task", "State", "Action", "Subtask")

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_WHOLE_WORD, _SINGLE_CHARACTER = -5.0, -12.0


def pieces() -> list[str]:
    """Every piece in the order of its id."""
    return [piece for piece, _, _ in _pieces()]


def tokenizer_model() -> bytes:
    """The SentencePiece model file (a protocol buffer, ``sentencepiece_model.proto``)."""
    listed = _pieces()
    trainer = (
        _integer(3, 1)  # unigram
        + _integer(4, len(listed))
        + _integer(35, 1)  # byte fallback
        + _integer(40, 3)
        + _integer(41, 2)
        + _integer(42, 1)
        + _integer(43, 0)
        + _text(45, "<unk>")
        + _text(46, "<bos>")
        + _text(47, "<eos>")
        + _text(48, "<pad>")
    )
    # Nothing is normalised: no space in front, none removed.
    normalizer = _text(1, "identity") + _integer(3, 0) + _integer(4, 0) + _integer(5, 1)
    entries = (
        _text(1, piece) + _float(2, score) + _integer(3, kind) for piece, score, kind in listed
    )
    body = b"".join(_bytes(1, entry) for entry in entries)
    return body + _bytes(2, trainer) + _bytes(3, normalizer)


def _pieces() -> list[tuple[str, float, int]]:
    """(piece, score, kind) by id; of two ways to cut a text the higher sum of scores wins."""
    listed: list[tuple[str, float, int]] = [
        ("<pad>", 0.0, _CONTROL),
        ("<eos>", 0.0, _CONTROL),
        ("<bos>", 0.0, _CONTROL),
        ("<unk>", 0.0, _UNKNOWN),
        (NEWLINE, 0.0, _USER_DEFINED),
    ]
    listed += [(f"<0x{byte:02X}>", 0.0, _BYTE) for byte in range(256)]
    characters = [WORD_START, *sorted(set(map(chr, range(33, 127))))]
    listed += [(character, _SINGLE_CHARACTER, _NORMAL) for character in characters]
    listed += [(WORD_START + str(number), _WHOLE_WORD, _NORMAL) for number in NUMBERS]
    words = [WORD_START + word for word in WORDS] + [word for word in WORDS if len(word) > 1]
    words += [WORD_START + marker for marker in _MARKERS] + list(_MARKERS)
    words += [WORD_START + letter for letter in string.ascii_letters if letter not in WORDS]
    listed += [(word, _WHOLE_WORD, _NORMAL) for word in words]
    return listed


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
