"""docs/migrate.md shows configurations that are read, and commands that exist."""

import re
from pathlib import Path

import pytest
from server_configs import parse
from typer.testing import CliRunner

from openpi_flash_server.cli import app

PAGE = (Path(__file__).parent.parent / "docs" / "migrate.md").read_text()
COMMANDS = re.findall(r"openpi-flash ((?:[a-z]+-)*[a-z]+)((?: --?[\w-]+(?: [\w/.]+)?)*)", PAGE)


def test_a_configuration_of_hebbians_is_read_as_it_is():
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    config = parse(text)
    assert config.mode == "combined"
    assert config.action_transport.unix_socket_path == "/tmp/openpi-action.sock"


def test_the_page_names_commands():
    assert {"serve", "ping", "inspect-checkpoint", "check-config"} <= {name for name, _ in COMMANDS}


@pytest.mark.parametrize("name", sorted({name for name, _ in COMMANDS}))
def test_every_command_and_flag_on_the_page_exists(name):
    told = CliRunner().invoke(app, [name, "--help"]).output
    assert "Usage" in told
    for command, flags in COMMANDS:
        for flag in re.findall(r"--[\w-]+", flags) if command == name else ():
            assert f" {flag} " in told, flag
