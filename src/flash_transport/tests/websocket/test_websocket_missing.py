"""Without the websockets package."""

import subprocess
import sys


def run_without_websockets(code):
    hide = "import sys; sys.modules['websockets'] = None\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, check=False
    )


def test_everything_else_works_without_the_websockets_package():
    result = run_without_websockets("import flash_transport; flash_transport.FlashTransportPolicy")
    assert (result.returncode, result.stderr) == (0, "")


def test_without_the_websockets_package_the_error_names_it():
    result = run_without_websockets("import flash_transport; flash_transport.WebsocketPolicy")
    assert "ImportError: the WebSocket client needs websockets 13 or newer" in result.stderr
