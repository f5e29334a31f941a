"""infra/modal/app.py with the real modal package: what it registers, and how it starts a server."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

modal = pytest.importorskip("modal", reason="modal is not installed: pip install modal")
PATH = Path(__file__).parent.parent / "infra/modal/app.py"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("openpi_flash_on_modal", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_modal_knows_the_functions(program):
    names = {name for name, value in vars(program).items() if isinstance(value, modal.Function)}
    assert names == {"convert", "prepare", "tunnel", "websocket"}


def test_openpi_flashs_options_become_the_servers(program):
    assert program.serve_command("pi05_droid", "gs://a/b", "fold") == [
        *("openpi-flash", "serve", "--host", "0.0.0.0", "--port", "8000"),
        *("--policy-config", "pi05_droid", "--policy-dir", "gs://a/b"),
        *("--default-prompt", "fold"),
    ]
    assert program.serve_command("null", "", "")[-2:] == ["--policy-config", "null"]


def test_a_server_that_ends_is_an_error(program):
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    with pytest.raises(RuntimeError, match="status 3"):
        program.wait_until_ready(process, "http://127.0.0.1:9/healthz", 5)


def test_a_server_that_is_never_ready_is_an_error(program):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(RuntimeError, match="not ready after 0 s"):
            program.wait_until_ready(process, "http://127.0.0.1:9/healthz", 0)
        process.communicate(b"\n")
