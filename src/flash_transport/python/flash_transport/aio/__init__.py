"""QUIC in pure Python, over aioquic: `docs/protocol.md` spoken by a second stack.

For machines that no wheel of flash_transport fits, and for programs that live in asyncio. Some
twenty times slower than the compiled client, and the same otherwise:

    from flash_transport.aio import FlashTransportPolicy       # blocking
    from flash_transport.aio import AsyncFlashTransportPolicy  # in an event loop

Needs aioquic: `pip install flash_transport[aio]`.
"""

try:
    import aioquic as _aioquic  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "QUIC in pure Python needs aioquic 1.2 or newer: pip install 'aioquic>=1.2'"
    ) from _error

from flash_transport.aio.blocking import BlockingAioPolicy as FlashTransportPolicy
from flash_transport.aio.policy import AsyncFlashTransportPolicy

__all__ = ["AsyncFlashTransportPolicy", "FlashTransportPolicy"]
