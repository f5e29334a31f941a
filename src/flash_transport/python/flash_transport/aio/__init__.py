"""A QUIC client in pure Python, over aioquic: a second implementation of `docs/protocol.md`.

For machines without the compiled half, and for programs in asyncio. About twenty times slower than
the compiled client, otherwise equal:

    from flash_transport.aio import FlashTransportPolicy       # blocking
    from flash_transport.aio import AsyncFlashTransportPolicy  # in an event loop

Needs aioquic 1.2 or newer.
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
