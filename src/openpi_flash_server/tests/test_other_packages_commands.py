"""Commands that other packages add to `openpi-flash`."""

from importlib.metadata import EntryPoint

import typer
from typer.testing import CliRunner

from openpi_flash_server.cli import add_commands_of

GROUP = "openpi_flash.commands"


def hello(app):
    app.command("hello")(lambda: typer.echo("hello"))


def test_a_package_adds_its_commands_and_one_that_cannot_be_imported_is_a_warning(capsys):
    app = typer.Typer()
    app.command("serve")(lambda: None)
    broken = EntryPoint("broken", "no_such_package.commands:add", GROUP)
    good = EntryPoint("good", f"{__name__}:hello", GROUP)
    add_commands_of([broken, good], app)
    assert CliRunner().invoke(app, ["hello"]).output == "hello\n"
    said = capsys.readouterr().err
    assert said.startswith("warning: the commands of no_such_package are missing: No module named")
