"""`python -m openpi_flash_server` is `openpi-flash`."""

from openpi_flash_server.cli import app

if __name__ == "__main__":
    app(prog_name="openpi-flash")
