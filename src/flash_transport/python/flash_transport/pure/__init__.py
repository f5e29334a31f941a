"""The names of `flash_transport._native` in Python and numpy, for machines without a compiler.

The codec gives the same bytes, images differ by at most one level; QUIC raises `NativeMissing`.
"""

from flash_transport.pure.encodings import image_to_rgb
from flash_transport.pure.native_only import (
    LocalServer,
    QuicServer,
    TransportRequest,
    TransportServer,
    WebsocketServer,
    decode_image,
    encode_jpeg,
    image_size,
    jpeg_message,
)
from flash_transport.pure.native_only import MissingQuicPolicy as FlashTransportPolicy
from flash_transport.pure.pack import packb
from flash_transport.pure.resize import resize_with_pad
from flash_transport.pure.unpack import unpackb

__version__ = "0.1.0"

__all__ = [
    "FlashTransportPolicy",
    "LocalServer",
    "QuicServer",
    "TransportRequest",
    "TransportServer",
    "WebsocketServer",
    "__version__",
    "decode_image",
    "encode_jpeg",
    "image_size",
    "image_to_rgb",
    "jpeg_message",
    "packb",
    "resize_with_pad",
    "unpackb",
]
