"""The codec against openpi's own, byte for byte, and against messages that nobody should accept."""

import contextlib
import enum
import gc
import os
import subprocess
import sys
import weakref

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import implementation  # noqa: F401 - every test over both halves
from openpi_client import msgpack_numpy

from flash_transport import CodecError, packb, unpackb

ARANGE = bytes.fromhex(
    "84 c40b 5f5f6e6461727261795f5f c3 c404 64617461 c40c 000000000000803f00000040"
    "c405 6474797065 a3 3c6634 c405 7368617065 91 03"
)
FLOAT32 = bytes.fromhex(
    "83 c40d 5f5f6e7067656e657269635f5f c3 c404 64617461 cb3ff8000000000000"
    "c405 6474797065 a3 3c6634"
)


def same(one, other):
    """Equal, of the same types, down to the bytes of arrays."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (np.isnan(one) and np.isnan(other))


def test_an_array_is_the_bytes_of_the_document():
    assert packb(np.arange(3, dtype="f4")) == ARANGE
    assert same(unpackb(ARANGE), np.arange(3, dtype="f4"))


def test_a_numpy_scalar_is_the_bytes_of_the_document():
    assert packb(np.float32(1.5)) == FLOAT32
    assert same(unpackb(FLOAT32), np.float32(1.5))


class Gripper(enum.IntEnum):
    OPEN = 3


class Observation(dict):
    pass


STRIDED = np.arange(2 * 40 * 50 * 3, dtype=np.uint16).reshape(2, 40, 50, 3)

PACKED_AS_OPENPI_PACKS = {
    "none": None,
    "bools": [True, False],
    "ints": [0, 127, 128, -1, -33, 2**32, 2**63, 2**64 - 1, -(2**63)],
    "int enum": Gripper.OPEN,
    "floats": [0.0, -0.0, 1.5, float("inf")],
    "texts": ["", "pick up", "größer " * 40, "\0"],
    "bytes": [b"", b"\xff" * 300, bytearray(b"ab"), memoryview(b"abcdef")[2:]],
    "tuple": (1, (2, "x")),
    "dict of a subclass": Observation(a=1, b=Observation()),
    "bytes keys": {b"a": 1, "a": 2},
    "str keys that numpy made": {np.str_("a"): 1},
    "long keys": {"k" * 300: {}},
    "np.float64 is a float": np.float64(1.5),
    "np.str_ is a str": np.str_("a"),
    "np.bytes_ is bytes": np.bytes_(b"a"),
    "np.bool_": np.bool_(True),
    "scalars": [t(3) for t in (np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64)],
    "half": np.float16(1.5),
    "no time": np.datetime64("NaT"),
    "nanoseconds": np.timedelta64(3, "ns"),
    "0-d": np.array(3),
    "0-d text": np.array("prompt"),
    "empty": np.zeros((0, 3), np.uint8),
    "bool array": np.array([True, False]),
    "text array": np.array(["ab", "cde12"]),
    "bytes array": np.array([b"ab", b"c"]),
    "text of no length": np.empty(2, "U0"),
    "half array": np.ones(3, np.float16),
    "extended array": np.ones(3, np.longdouble),
    "big-endian": np.arange(400, dtype=">f8"),
    "big-endian text": np.array(["ab"], dtype=">U2"),
    "times": np.array(["2020-01-01", "NaT"], "M8[ns]"),
    "durations": np.array([1, 2], "m8[25us]"),
    "times without a unit": np.array(["NaT"], "M8"),
    "image": np.arange(224 * 224 * 3, dtype=np.uint8).reshape(224, 224, 3),
    "transposed": STRIDED.transpose(3, 1, 2, 0),
    "every other": STRIDED[:, ::2, ::-1],
    "fortran": np.asfortranarray(STRIDED),
    "broadcast": np.broadcast_to(np.arange(5, dtype=">i4"), (300, 5)),
    "strided big-endian": np.arange(4000, dtype=">i4")[::3],
    "strided bytes": np.array([b"abc", b"d"] * 900)[::2],
    "strided text": np.array(["abc", "d"] * 900)[::2],
    "strided times": np.arange(4000).astype("M8[s]")[::3],
    "misaligned": np.frombuffer(bytes(range(9)), np.uint8)[1:].view("<f8"),
    "misaligned and strided": np.frombuffer(bytes(8001), np.uint8)[1:].view("<f8")[::2],
    "read-only": np.frombuffer(bytes(range(12)), "<i4"),
    "masked": np.ma.masked_array(np.arange(500), np.arange(500) % 2),
    "64 dimensions": np.ones((1,) * 64, np.uint8)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0"
    else 0,
}


@pytest.mark.parametrize("value", PACKED_AS_OPENPI_PACKS.values(), ids=PACKED_AS_OPENPI_PACKS)
def test_packed_bytes_are_openpis(value):
    expected = msgpack_numpy.packb(value)
    assert packb(value) == expected
    assert packb({"k": [value]}) == msgpack_numpy.packb({"k": [value]})
    assert same(unpackb(expected), msgpack_numpy.unpackb(expected))


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | hnp.unicode_string_dtypes(endianness="?")
    | hnp.byte_string_dtypes()
    | hnp.datetime64_dtypes(endianness="?")
    | hnp.timedelta64_dtypes(endianness="?")
)


@st.composite
def arrays(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
    array = draw(hnp.arrays(draw(DTYPES), shape))
    if array.ndim and draw(st.booleans()):
        array = array.transpose(draw(st.permutations(range(array.ndim))))
    if array.ndim and draw(st.booleans()):
        array = array[draw(hnp.basic_indices(array.shape, allow_ellipsis=True))]
    # longer than what is written at once
    return np.repeat(array, 70, axis=0)[::3] if draw(st.booleans()) and np.ndim(array) else array


SCALARS = (
    hnp.from_dtype(np.dtype("f4")) | hnp.from_dtype(np.dtype("i8")) | hnp.from_dtype(np.dtype("?"))
)
KEYS = (st.text(max_size=40) | st.binary(max_size=40)).filter(
    lambda key: key not in ("__ndarray__", "__npgeneric__", b"__ndarray__", b"__npgeneric__")
)
VALUES = st.recursive(
    PLAIN | SCALARS | arrays().filter(lambda array: isinstance(array, np.ndarray)),
    lambda inner: (
        st.lists(inner, max_size=18)
        | st.dictionaries(KEYS, inner, max_size=18)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(VALUES)
def test_any_value_packs_and_unpacks_as_with_openpi(value):
    ours = packb(value)
    assert ours == msgpack_numpy.packb(value)
    assert same(unpackb(ours), msgpack_numpy.unpackb(ours))


@settings(deadline=None, derandomize=True, max_examples=500)
@given(st.data())
def test_a_damaged_message_is_accepted_or_refused_with_the_codecs_error(data):
    message = bytearray(packb(data.draw(VALUES)))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CodecError):
        unpackb(bytes(message))


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused_with_the_codecs_error(message):
    with contextlib.suppress(CodecError):
        unpackb(message)


def test_unpacked_arrays_are_read_only_views_that_keep_the_message_alive():
    message = packb({"image": np.full((64, 64, 3), 7, np.uint8), "state": np.arange(7.0)})
    image = unpackb(message)["image"]
    assert not image.flags.writeable
    assert not image.flags.owndata
    assert image.base is message
    address = np.frombuffer(message, np.uint8).ctypes.data
    assert address < image.ctypes.data < address + len(message)
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        image.flags.writeable = True
    del message
    gc.collect()
    assert (image == 7).all()


def test_an_unpacked_array_is_marked_aligned_only_where_it_is():
    for pad in range(8):
        array = unpackb(packb(["x" * pad, np.arange(3.0)]))[1]
        assert array.flags.aligned == (array.ctypes.data % 8 == 0)
        assert (array == np.arange(3.0)).all()


@pytest.mark.parametrize(
    "buffer", [bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)]
)
def test_a_message_may_lie_in_any_buffer(buffer):
    message = buffer(packb({"a": np.arange(5), "b": "text"}))
    value = unpackb(message)
    assert same(value, {"a": np.arange(5), "b": "text"})
    assert not value["a"].flags.writeable
    address = np.frombuffer(message, np.uint8).ctypes.data
    assert address < value["a"].ctypes.data < address + len(message)


def test_a_bytearray_with_views_on_it_cannot_move_from_under_them():
    message = bytearray(packb(np.arange(5)))
    array = unpackb(message)
    with pytest.raises(BufferError):
        message.clear()
    del array
    gc.collect()
    message.clear()


def test_a_message_may_lie_in_the_middle_of_a_buffer():
    message = packb(np.arange(5))
    assert same(unpackb(memoryview(b"x" + message + b"y")[1:-1]), np.arange(5))


@pytest.mark.parametrize("data", ["text", None, [1], np.zeros((4, 4), np.uint8).T[::2]])
def test_what_is_no_buffer_is_not_unpacked(data):
    with pytest.raises((TypeError, ValueError)):
        unpackb(data)


def test_packing_leaves_no_reference_behind():
    array = np.arange(10_000)[::2]
    ref = weakref.ref(array)
    references = sys.getrefcount(array)
    value = {"a": array, "b": b"x" * 5000}
    packb(value)
    with pytest.raises(CodecError):
        packb([array, object()])
    del value
    assert sys.getrefcount(array) == references
    del array
    assert ref() is None


def test_unpacking_leaves_no_reference_behind():
    message = packb([np.arange(5000), np.arange(3), np.float32(1)])
    references = sys.getrefcount(message)
    unpackb(message)
    with pytest.raises(CodecError):
        unpackb(message[:-1])
    gc.collect()
    assert sys.getrefcount(message) == references


class NotPacked:
    pass


ITSELF = []
ITSELF.append(ITSELF)
HINT = r"is not supported, convert it, for example with \.astype\('float32'\)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(2, object), rf"the value: dtype object \(kind O\) {HINT}"),
        ({"a": np.zeros(2, "c8")}, rf"at \['a'\]: dtype complex64 \(kind c\) {HINT}"),
        (
            {"observation": {"wrist/image": [0, np.zeros(2, "V2")]}},
            rf"at \['observation'\]\['wrist/image'\]\[1\]: dtype \|V2 \(kind V\) {HINT}",
        ),
        ({b"k": np.complex128(1)}, rf"at \[b'k'\]: dtype complex128 \(kind c\) {HINT}"),
        (np.longdouble(1), "a numpy scalar of dtype float128 has no plain value"),
        (np.datetime64("2020-01-01"), "has no plain value, convert it to a numpy array"),
        ({"a": (1, NotPacked())}, r"at \['a'\]\[1\]: \S*test_codec\.NotPacked is not supported"),
        ({"a": {1: 2}}, r"at \['a'\]: map key 1 is int, expected str or bytes"),
        ({"a": 2**64}, r"at \['a'\]: integer does not fit into 64 bits"),
        ([-(2**63) - 1], r"at \[0\]: integer does not fit into 64 bits"),
        (["\ud800"], r"at \[0\]: text holds a lone surrogate"),
        ({"\ud800": 1}, "text holds a lone surrogate"),
        (ITSELF, "more than 64 levels"),
        ({1, 2}, "set is not supported"),
        (1j, "complex is not supported"),
    ],
)
def test_what_cannot_travel_is_refused_with_the_way_to_it(value, message):
    with pytest.raises(CodecError, match=message) as caught:
        packb(value)
    assert str(caught.value).startswith("cannot pack the value")


@pytest.mark.skipif(
    not hasattr(getattr(np, "dtypes", None), "StringDType"), reason="numpy 1 has no StringDType"
)
def test_text_of_variable_length_is_refused_because_it_would_send_pointers():
    with pytest.raises(CodecError, match=r"at \['a'\]: dtype StringDType\(\) \(kind T\)"):
        packb({"a": np.array(["a", "b"], dtype=np.dtypes.StringDType())})


def test_bfloat16_is_refused():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4):
        with pytest.raises(CodecError, match=np.dtype(dtype).name):
            packb(np.zeros(3, dtype))


class LyingArray(np.ndarray):
    def tobytes(self, order="C"):
        return b"short"


class FailingArray(np.ndarray):
    def tobytes(self, order="C"):
        raise RuntimeError("the camera is gone")


def test_a_subclass_of_ndarray_that_lies_about_its_bytes_is_refused():
    with pytest.raises(CodecError, match="gave 5 bytes, expected 80"):
        packb(np.zeros(10).view(LyingArray))


def test_an_error_of_the_callers_own_code_comes_out_as_it_is():
    with pytest.raises(RuntimeError, match="the camera is gone"):
        packb({"a": np.zeros(10).view(FailingArray)})


class ShrinksTheOther(np.ndarray):
    other: np.ndarray

    def tobytes(self, order="C"):
        self.other.resize(1, refcheck=False)
        return super().tobytes(order)


def test_an_array_that_shrinks_while_it_is_packed_is_refused():
    victim = np.zeros(5000)
    culprit = np.zeros(3).view(ShrinksTheOther)
    culprit.other = victim
    with pytest.raises(CodecError, match="changed its size or dtype while it was packed"):
        packb([victim, culprit])


class ChangesTheDict(np.ndarray):
    target: dict

    def tobytes(self, order="C"):
        self.target.clear()
        return super().tobytes(order)


def test_a_dict_that_changes_while_it_is_packed_is_packed_as_it_was():
    culprit = np.zeros(3).view(ChangesTheDict)
    value = {"a": culprit, "b": 1}
    expected = msgpack_numpy.packb({"a": np.zeros(3), "b": 1})
    culprit.target = value
    assert packb(value) == expected


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "cut off"),
        ("c0c0", "1 bytes follow the end of the message at byte 1"),
        ("a2c328", "text at byte 0 is not valid UTF-8"),
        ("c1", "0xc1"),
        ("d4ff00", "extension type -1"),
        ("8101c0", "map key at byte 1 is an integer, expected text or bytes"),
        ("ddffffffff", "cut off"),
        ("91" * 100_000 + "c0", "more than 64 levels"),
    ],
)
def test_broken_messages_are_refused_with_the_reason(message, reason):
    with pytest.raises(CodecError, match=reason):
        unpackb(bytes.fromhex(message))


def array_message(data=bytes(4), dtype="<f4", shape=(1,), key=b"__ndarray__"):
    return msgpack_numpy.packb({key: True, b"data": data, b"dtype": dtype, b"shape": shape})


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (array_message(dtype="|O8"), 'dtype "|O8" is not supported'),
        (array_message(dtype="<c8"), 'dtype "<c8" is not supported'),
        (array_message(dtype="(2,2)<f4"), "is not supported"),
        (
            array_message(data=bytes(8)),
            r"dtype <f4 and shape \[1\] has 8 bytes of data, expected 4",
        ),
        (array_message(data=b"", shape=(2**62, 2**62)), "has 0 bytes of data"),
        (array_message(data=b"", shape=(0, 2**62, 2**62)), "has 0 bytes of data"),
        (array_message(data=3, dtype="|S4", key=b"__npgeneric__"), "data does not fit its dtype"),
        (array_message(data=300, dtype="|u1", key=b"__npgeneric__"), "data does not fit its dtype"),
        (array_message(data=5, dtype="<M8", key=b"__npgeneric__"), "numpy refused"),
        (array_message(data=7e38, dtype="<f4", key=b"__npgeneric__"), "numpy refused: overflow"),
    ],
)
def test_arrays_that_numpy_should_never_see_are_refused(message, reason):
    with pytest.raises(CodecError, match=reason):
        unpackb(message)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "=f4", "f4", "float32"])
def test_a_dtype_may_come_in_any_spelling_that_openpi_takes(dtype):
    message = array_message(data=b"\x00\x00\x80\x3f", dtype=dtype)
    assert same(unpackb(message), msgpack_numpy.unpackb(message))


def test_array_maps_may_have_text_keys():
    parts = {"__ndarray__": True, "data": b"\1\2", "dtype": "|u1", "shape": [2]}
    assert same(unpackb(msgpack_numpy.packb(parts)), np.array([1, 2], np.uint8))


def test_a_duration_keeps_its_unit():
    assert same(unpackb(packb(np.timedelta64(3, "ns"))), np.timedelta64(3, "ns"))


def test_the_codec_works_without_anything_imported_before_it(implementation):  # noqa: F811
    # numpy's C interface is looked up when it is first needed
    code = "from flash_transport import packb, unpackb; print(unpackb(packb([1, {'a': 2.5}])))"
    environment = {**os.environ, "FLASH_TRANSPORT_IMPLEMENTATION": implementation}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout == "[1, {'a': 2.5}]\n"
