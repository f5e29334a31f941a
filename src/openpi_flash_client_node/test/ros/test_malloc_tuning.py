"""malloc_tuning.py: memory of images is kept."""

import ctypes
import sys

import pytest

from openpi_flash_client_node.ros.malloc_tuning import keep_image_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_glibc_takes_the_setting():
    assert keep_image_memory() is True


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_image_memory() is False
