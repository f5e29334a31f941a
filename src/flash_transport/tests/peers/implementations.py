"""Runs the tests of a module over both halves of flash_transport, the compiled one and `pure`.

Importing the fixture is enough: `from implementations import implementation`.
"""

import pytest

from flash_transport import _native, pure

HALVES = {"native": _native, "pure": pure}


@pytest.fixture(params=HALVES, autouse=True)
def implementation(request, monkeypatch):
    """The name of the half whose functions the module's tests call under their own names."""
    half = HALVES[request.param]
    for name in pure.__all__:
        if name in vars(request.module):
            monkeypatch.setattr(request.module, name, getattr(half, name))
    return request.param
