"""Which texts can be API keys. Pure. No message here shows the key, nor a part of it."""

from __future__ import annotations

__all__ = ["checked_api_key"]

MAX_CHARS = 1024
"""As the hello of `docs/protocol.md` allows."""


def checked_api_key(api_key: str | None) -> str | None:
    """The key as it is sent; None where there is none.

    A key is sent in an HTTP header or in a hello, so it must be printable ASCII, and must not
    start or end with a space.

    Raises:
        ValueError: another text; says what kind of character is wrong, and where it usually comes
            from.
    """
    if api_key is None or api_key == "":
        return None
    if not isinstance(api_key, str):
        raise ValueError(f"api_key is {type(api_key).__name__}, expected text")
    if len(api_key) > MAX_CHARS:
        raise ValueError(
            f"api_key has {len(api_key)} characters, at most {MAX_CHARS} are allowed; "
            "is it the content of another file?"
        )
    for position, char in enumerate(api_key, 1):
        problem = _problem(char)
        if problem:
            raise ValueError(f"api_key holds {problem} as character {position}; {_ADVICE}")
    if api_key != api_key.strip(" "):
        raise ValueError(f"api_key starts or ends with a space; {_ADVICE}")
    return api_key


def _problem(char: str) -> str | None:
    if char in _NAMES:
        return _NAMES[char]
    if char < " " or char == "\x7f":
        return "a control character"
    return None if char < "\x7f" else "a character that is not ASCII"


_NAMES = {"\n": "a line feed", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL"}
_ADVICE = (
    "keys are printable ASCII, with no space or line end around them; look at the file or variable "
    "that it comes from"
)
