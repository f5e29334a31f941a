"""For every test: Ctrl-C, no time limit for an example of a property, its own registries."""

import signal
from collections.abc import Iterator
from importlib import import_module

import pytest
from hypothesis import settings

# a busy machine would miss a limit
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REGISTRIES = (
    ("openpi_flash_models.robots", "ROBOTS"),
    ("openpi_flash_models.config.named_configs", "CONFIGS"),
    ("openpi_flash_models.config.robot_file", "_added"),
)


def pytest_configure() -> None:
    """Lets Ctrl-C reach the programs that tests start, also in a background job."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_robots_of_other_tests() -> Iterator[None]:
    """What a test's robot files define is gone after it."""
    try:
        registries = [getattr(import_module(module), name) for module, name in REGISTRIES]
    except ImportError:  # of a robot that has no models
        yield
        return
    before = [dict(registry) for registry in registries]
    yield
    for registry, kept in zip(registries, before, strict=True):
        if registry.keys() != kept.keys():
            registry.clear()
            registry.update(kept)
