"""Whatever a robot file holds, it is read or refused by the reader's own error."""

import contextlib
import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from openpi_flash_models.config.robot_file import read_robot_file
from openpi_flash_models.errors import InferenceConfigError

PAGE = Path(__file__).parents[3] / "docs" / "robots.md"
EXAMPLE = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
"""More for a longer run: src/flash_transport/fuzz/README.md."""

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 10**400, 1e300, float("inf"), float("nan"), "", "rad", "\x00", [], {}]),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.integers() | st.text(max_size=3), st.none(), max_size=2),
)
PIECES = [
    *(
        b"&a ",
        b"*a",
        b"{",
        b"[",
        b"? ",
        b"|",
        b"<<: ",
        b"---\n",
        b"\t",
        b"=",
        b"0x",
        b"1e999",
        b".inf",
    ),
    *(
        b"2020-13-45",
        b"12:99:99",
        b"!!timestamp ",
        b"!!bool ",
        b"!!int ",
        b"!!python/object:os.system ",
    ),
]
"""What YAML reads as more than text."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("robots") / "arm.yaml"


def read_or_refuse(file, content):
    file.write_bytes(content)
    with contextlib.suppress(InferenceConfigError):
        read_robot_file(file)


def places(value):
    """Every list and map in a value, with each of its keys or places."""
    keys = range(len(value)) if isinstance(value, list) else value
    for key in keys:
        yield value, key
        if isinstance(value[key], list | dict):
            yield from places(value[key])


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_odd_values_in_any_place_are_read_or_refused(data, file):
    content = yaml.safe_load(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(list(places(content))))
        if key in holder if isinstance(holder, dict) else key < len(holder):
            holder[key] = data.draw(ODD)
    read_or_refuse(file, yaml.safe_dump(content).encode())


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_odd_text_in_any_place_is_read_or_refused(data, file):
    content = bytearray(EXAMPLE.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        piece = data.draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        content[place : place + data.draw(st.integers(0, 8))] = piece
    read_or_refuse(file, bytes(content))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 20_000, id="deep"),
        b"robots: 2020-13-45",
        b"robots: !!bool maybe",
        b"robots: !!timestamp soon",
        b"a: &a [*a]",
        b"? [a, b]\n: c",
    ],
)
def test_yaml_on_which_the_parser_itself_fails_is_refused(file, content):
    file.write_bytes(content)
    with pytest.raises(InferenceConfigError, match="arm.yaml"):
        read_robot_file(file)
