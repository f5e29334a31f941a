"""Fixtures of more than one file."""

import contextlib
import signal
import threading

import pytest
from openpi_server import serving as serving_openpi
from policy_contract import TRANSPORTS


@pytest.fixture
def server():
    """A server of openpi's protocol."""
    with serving_openpi() as server:
        yield server


@pytest.fixture
def press_ctrl_c():
    """`press_ctrl_c()` interrupts the main thread, from any thread.

    A run that was started in the background inherits that SIGINT is ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=TRANSPORTS, ids=lambda transport: transport.name)
def transport(request):
    return request.param


@pytest.fixture
def serving(transport):
    """`serving(handle, metadata)` is an endpoint until the test ends."""
    with contextlib.ExitStack() as stack:

        def serve(handle, metadata=None, address=None, api_keys=()):
            address = transport.free_address() if address is None else address
            endpoint = transport.serve(handle, metadata or {}, address, list(api_keys))
            return stack.enter_context(endpoint)

        yield serve
