"""The numbers of a call have one list, `CallStats`; what repeats it is held equal here."""

import ast
import dataclasses
import re
from pathlib import Path

from contract_handlers import Held
from quic_peers import LONG, Served, eventually

from flash_transport import CallStats, FlashTransportPolicy, _native, packb
from flash_transport.stats import NO_CALL, RoundTrip

ROOT = Path(__file__).parents[4]
FIELDS = [field.name for field in dataclasses.fields(CallStats)]
OF_PYTHON = ["jpeg_quality", "transport"]
"""How the images were encoded and which transport carried the call, at the end of the list."""
TYPES = [field.type for field in dataclasses.fields(CallStats)][: -len(OF_PYTHON)]
"""Of the numbers of the compiled half."""


def test_a_round_trip_is_all_but_the_packing():
    assert [*RoundTrip._fields, *OF_PYTHON] == FIELDS[1:]
    assert CallStats.of(1.0, RoundTrip(2.0, 3, 4, 5, 6.0)) == CallStats(1.0, 2.0, 3, 4, 5, 6.0)
    assert CallStats.of(1.0, RoundTrip(), 92).jpeg_quality == 92
    assert dataclasses.astuple(NO_CALL) == (0, 0, 0, 0, 0, 0, 0, "")


def number_tuples(function):
    """Types of the tuples of more than three numbers in a function's annotation in the stub."""
    stub = ast.parse(Path(_native.__file__).with_name("_native.pyi").read_text())
    (found,) = (
        node
        for node in ast.walk(stub)
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    texts = re.findall(r"tuple\[((?:float|int)(?:, (?:float|int)){3,})\]", ast.unparse(found))
    return [text.split(", ") for text in texts]


def test_the_compiled_half_gives_the_numbers_in_the_same_order_and_types():
    assert number_tuples("infer_with_stats") == [TYPES]
    assert number_tuples("next") == [TYPES[1:]]


def test_each_number_of_the_compiled_half_comes_to_its_name():
    held = Held()
    request, answer = {"image": bytes(5000)}, {"a": 1}
    with Served(held) as served, FlashTransportPolicy("127.0.0.1", served.port) as policy:
        future = policy.submit(request, timeout=LONG)
        eventually(lambda: held.requests)
        held.requests[0].respond(answer)
        future.result(LONG)
        stats = future.stats
    assert (stats.bytes_up, stats.bytes_down) == (len(packb(request)) + 1, len(packb(answer)) + 1)
    assert stats.connect_attempts == 0
    assert stats.serialize_ms > 0
    assert stats.round_trip_ms > 0
    assert stats.first_action_ms == stats.round_trip_ms


def test_the_robots_message_carries_the_sizes_and_the_packing_under_the_same_names():
    message = ROOT / "src" / "openpi_flash_msgs" / "msg" / "InferenceStats.msg"
    names = re.findall(r"^\w+ (\w+)$", message.read_text(), re.MULTILINE)
    sizes = [name for name in FIELDS if name.startswith("bytes_")]
    assert [name for name in names if name.startswith("bytes_")] == sizes
    assert "serialize_ms" in FIELDS
    assert "serialize" in names
