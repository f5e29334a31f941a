"""The compiled half of flash_transport: what `flash_transport` re-exports."""

from typing import Any

from typing_extensions import Buffer

__version__: str

def packb(value: Any) -> bytes:
    """Pack a value as openpi's client and server do: msgpack with numpy arrays.

    Takes None, bool, int, float, str, bytes-like values, numpy arrays and scalars, and dicts (with str or bytes
    keys), lists and tuples of them. Tuples arrive as lists.

    Raises:
        CodecError: the value, or one inside it, cannot travel; names the way to it.
    """

def unpackb(data: Buffer) -> Any:
    """Unpack one message. Arrays are read-only views that keep `data` alive; nothing of them is copied.

    Raises:
        CodecError: `data` is no such message, or larger or deeper than a message may be.
    """
