"""reader.py: every field where the standard has it, and nothing beyond the end."""

import struct

import pytest

from openpi_flash_robot.cdr.reader import CdrError, CdrReader

LITTLE, BIG = b"\x00\x01\x00\x00", b"\x00\x00\x00\x00"


def text(value, order="<"):
    return struct.pack(f"{order}I", len(value) + 1) + value + b"\0"


@pytest.mark.parametrize(("head", "order"), [(LITTLE, "<"), (BIG, ">")])
def test_numbers_are_aligned_to_their_size_in_both_byte_orders(head, order):
    message = head + b"\x07" + b"???" + struct.pack(f"{order}I", 258)
    message += struct.pack(f"{order}I", 2) + b"????" + struct.pack(f"{order}2d", 1.5, -2.0)
    message += struct.pack(f"{order}iI", -2, 5)
    reader = CdrReader(message)
    assert reader.uint8() == 7
    assert reader.uint32() == 258
    assert list(reader.doubles()) == [1.5, -2.0]
    assert reader.stamp() == -2_000_000_000 + 5
    assert reader.at == len(message)


def test_an_empty_sequence_of_doubles_needs_no_alignment():
    reader = CdrReader(LITTLE + struct.pack("<II", 0, 9))
    assert list(reader.doubles()) == []
    assert reader.uint32() == 9


def test_strings_end_with_a_zero_which_some_leave_out_of_an_empty_one():
    message = LITTLE + struct.pack("<I", 3) + text("é".encode()) + b"?" + text(b"")
    message += b"???" + struct.pack("<I", 0)
    assert CdrReader(message).strings() == ("é", "", "")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"", "encapsulation"),
        (b"\x00\x07\x00\x00" + bytes(8), "encapsulation '00070000'"),
        (LITTLE, "cut off"),
        (LITTLE + struct.pack("<I", 2) + b"ab", "without the zero"),
        (LITTLE + struct.pack("<I", 3) + b"\xff\xfe\0", "no UTF-8"),
        (LITTLE + struct.pack("<I", 0xFFFFFFFF) + b"ab", "cut off"),
    ],
)
def test_what_is_no_string_is_refused(message, problem):
    with pytest.raises(CdrError, match=problem):
        CdrReader(message).string()


@pytest.mark.parametrize("read", [CdrReader.strings, CdrReader.doubles])
def test_a_count_beyond_the_message_is_refused_before_anything_is_made_of_it(read):
    with pytest.raises(CdrError, match="4294967295 elements, but 8 bytes are left"):
        read(CdrReader(LITTLE + struct.pack("<I", 0xFFFFFFFF) + bytes(8)))


def test_the_octets_are_a_view_and_not_a_copy():
    message = LITTLE + struct.pack("<I", 3) + b"abc"
    octets = CdrReader(message).octets()
    assert octets == b"abc"
    assert octets.obj is message


def test_octets_that_were_cut_off_are_refused():
    with pytest.raises(CdrError, match="10 bytes, at least 11 expected"):
        CdrReader(LITTLE + struct.pack("<I", 3) + b"ab").octets()
