"""docs/client.md says what is so: its programs run, its tables are complete."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from quic_peers import Served

import flash_transport
from flash_transport import FlashTransportPolicy, WebsocketPolicy, errors

PAGE = (Path(__file__).parents[4] / "docs" / "client.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ELSEWHERE = {"FlashTransportError", "ImageError", "NativeMissing"}
"""Errors of the tree that no call of a policy raises by itself."""


def first_column(title):
    table = PAGE[PAGE.index(title) :].split("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_each_program_runs(program, capsys):
    def policy(request):
        request.respond({"actions": np.zeros((10, 7))})

    with Served(policy) as served:
        here = program.replace('"10.0.0.5", 5555', f'"127.0.0.1", {served.port}')
        assert here != program
        exec(compile(here, "docs/client.md", "exec"), {})
    assert capsys.readouterr().out


def test_every_error_is_explained():
    listed = first_column("| error | what happened")
    assert listed == set(errors.__all__) - ELSEWHERE
    assert all(name in flash_transport.__all__ for name in listed)


def test_every_argument_is_explained():
    listed = first_column("| argument | default")
    arguments = set(inspect.signature(FlashTransportPolicy).parameters) - {"host", "port"}
    assert listed == arguments
    for_websocket = set(re.findall(r"^\| `(\w+)` W \|", PAGE, re.MULTILINE))
    assert for_websocket == set(inspect.signature(WebsocketPolicy).parameters) - {"host", "port"}
