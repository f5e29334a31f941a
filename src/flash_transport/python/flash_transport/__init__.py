"""QUIC transport, msgpack-numpy codec and image work for robot policies."""

from flash_transport._native import __version__

__all__ = ["__version__"]
