"""The errors of this package.

- FlashTransportError
    - Timeout (also a TimeoutError)
    - Disconnected (also a ConnectionError)
    - ServerError: the server answered with an error
        fields `code` and `message`
    - Superseded: a newer observation of the same session took this one's place
    - AuthenticationFailed
    - UntrustedServer
    - CodecError (also a ValueError)
    - ImageError (also a ValueError)
    - NativeMissing (also an ImportError): the compiled half of this package is not there
"""

# ruff: noqa: N818 - these names are part of the public interface; the tree says that they are errors

from flash_transport.outside_text import shown

__all__ = [
    "AuthenticationFailed",
    "CodecError",
    "Disconnected",
    "FlashTransportError",
    "ImageError",
    "NativeMissing",
    "ServerError",
    "Superseded",
    "Timeout",
    "UntrustedServer",
]


class FlashTransportError(Exception):
    """The base of all errors that this package raises on purpose.

    Its text is one line of at most 1000 characters, whatever a server put into it.
    """

    def __str__(self) -> str:
        return shown(super().__str__(), _MAX_CHARS)


_MAX_CHARS = 1000


class Timeout(FlashTransportError, TimeoutError):
    """There was no answer, or no connection, within the time limit."""


class Disconnected(FlashTransportError, ConnectionError):
    """There is no connection to the server, or it was lost before the answer came."""


class ServerError(FlashTransportError):
    """The server answered with an error.

    Attributes:
        code: the error code on the wire, such as `bad_request` or `internal`.
        message: the server's whole message. The error's text shows at most 200 characters of it on
            one line; of a Python traceback, which openpi's server sends, the last line.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        text = self.message.strip()
        if text.startswith("Traceback (most recent call last)"):
            text = text.splitlines()[-1]
        return f"{shown(self.code)}: {shown(text)}"


class Superseded(FlashTransportError):
    """A newer observation of the same session took this one's place."""


class AuthenticationFailed(FlashTransportError):
    """The server refused the api key, or requires one and got none."""


class UntrustedServer(FlashTransportError):
    """This client does not trust the server's certificate; the message says why."""


class CodecError(FlashTransportError, ValueError):
    """The value cannot be packed, or the bytes are not a valid message."""


class ImageError(FlashTransportError, ValueError):
    """The image's shape, size or encoding cannot be handled."""


class NativeMissing(FlashTransportError, ImportError):
    """This needs the compiled half of flash_transport, which is not installed here.

    Attributes:
        reason: why it could not be imported.
    """

    def __init__(self, wanted: str, reason: str) -> None:
        super().__init__(wanted, reason)
        self.wanted = wanted
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.wanted} needs the compiled half of flash_transport ({self.reason}); "
            "`pip install ./src/flash_transport` in a clone of openpi-flash builds it with Rust "
            "1.88 or newer, `pip install flash_transport-*.whl` installs one that was built "
            "elsewhere. WebsocketPolicy works without it, and flash_transport.aio speaks QUIC "
            "with aioquic"
        )
