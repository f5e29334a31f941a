"""Fixtures of more than one file."""

import pytest
from openpi_server import serving


@pytest.fixture
def server():
    """A server of openpi's protocol."""
    with serving() as server:
        yield server
