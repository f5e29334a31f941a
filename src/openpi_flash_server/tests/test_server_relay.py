"""`openpi-flash serve` at a relay: clients find it there by its name."""

import os
import subprocess
from pathlib import Path

import pytest
from server_fakes import WAIT
from server_process import Process
from typer.testing import CliRunner

from flash_transport import FlashTransportPolicy
from openpi_flash_server.cli import app

ROOT = Path(__file__).parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def relay(tmp_path):
    """A relay that knows lab1, as the client of it needs it."""
    programs = [TARGET / profile / "openpi-flash-transport" for profile in ("release", "debug")]
    programs = [path for path in programs if path.exists()]
    if not programs:
        pytest.skip("not built: cargo build -p flash_transport --features binary --bins")
    tokens, token = tmp_path / "tokens", tmp_path / "token"
    tokens.write_text(f"lab1 {TOKEN}\n")
    token.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)
    token.chmod(0o644)
    command = [max(programs, key=lambda path: path.stat().st_mtime), "relay"]
    command += ["--listen-host", "127.0.0.1", "--listen-port", "0", "--token-file", tokens]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[3].rstrip(";")
        yield {"relay": address, "relay_token_file": token}
        process.terminate()


@pytest.fixture
def start(tmp_path):
    servers = []

    def start(relay):
        transport = {"quic_port": 0, "websocket_port": 0, "relay": relay}
        action = {"model_config_name": "null", "default_prompt": "wave"}
        config = {"host": "127.0.0.1", "action": action, "action_transport": transport}
        servers.append(Process(tmp_path, config))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def test_a_client_finds_the_server_by_its_name_and_the_log_says_where(start, relay):
    server = start(
        {
            "address": relay["relay"],
            "name": "lab1",
            "token_file": str(relay["relay_token_file"]),
        }
    )
    line = server.wait_for("registered as lab1")
    assert f"relay={relay['relay']}" in line
    token_file = relay["relay_token_file"]
    assert any(f"{token_file} has mode 0644" in line for line in server.lines)
    with FlashTransportPolicy("lab1", **relay, connect_timeout=WAIT) as policy:
        assert "actions" in policy.infer({}, timeout=WAIT)


def test_ping_reaches_a_server_at_its_relay(start, relay):
    where = {"address": relay["relay"], "name": "lab1"}
    server = start(where | {"token_file": str(relay["relay_token_file"])})
    server.wait_for("registered as lab1")
    options = ["--relay", relay["relay"], "--relay-token-file", str(relay["relay_token_file"])]
    result = CliRunner().invoke(app, ["ping", "lab1", *options, "--timeout", str(WAIT)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("QUIC            connected in ")
    assert "5 answered" in result.output


def test_a_token_file_that_is_wrong_is_named_at_the_start(start, tmp_path):
    path = tmp_path / "token"
    path.write_text("short\n")
    server = start({"address": "127.0.0.1:9", "name": "lab1", "token_file": str(path)})
    code, error = server.end()
    assert code != 0
    assert f"action_transport.relay: relay token file {path}: line 1: " in error
    assert "5 characters, expected 22 to 1024" in error
    assert "Traceback" not in error
