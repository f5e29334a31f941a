"""The public names are one list, and the stub says what the binary is."""

import subprocess
import sys
from pathlib import Path

import flash_transport
from flash_transport import _native, errors


def public_names(module):
    return {name for name in vars(module) if not name.startswith("_")}


def test_the_list_of_public_names_is_complete_and_true():
    listed = set(flash_transport.__all__)
    assert flash_transport.__all__ == sorted(flash_transport.__all__)
    # imported by the first who asks
    for name in ("AutoTransportPolicy", "WebsocketPolicy"):
        assert getattr(flash_transport, name).__name__ == name
    package = Path(flash_transport.__file__).parent
    modules = {path.stem for path in package.iterdir()}
    foreign = {"TYPE_CHECKING", "Any"}
    found = public_names(flash_transport) - modules - foreign
    assert found | {"AutoTransportPolicy", "WebsocketPolicy"} == listed - {"__version__"}


def test_everything_of_the_binary_and_every_error_is_public():
    parts_of_the_policy = {"Completions", "PackedRequest", "TransportClient"}
    assert set(_native.__all__) - parts_of_the_policy <= set(flash_transport.__all__)
    assert set(errors.__all__) <= set(flash_transport.__all__)
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), flash_transport.FlashTransportError)


def test_every_public_name_explains_itself():
    for name in set(flash_transport.__all__) - {"__version__"}:
        thing = getattr(flash_transport, name)
        assert thing.__doc__, name
        if isinstance(thing, type):
            for method in public_names(thing):
                assert getattr(thing, method).__doc__, f"{name}.{method}"


def test_the_stub_agrees_with_the_binary():
    check = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "flash_transport._native"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_server_error_says_its_code_and_its_message():
    error = flash_transport.ServerError("bad_request", "no prompt")
    assert (error.code, error.message, str(error)) == (
        "bad_request",
        "no prompt",
        "bad_request: no prompt",
    )
