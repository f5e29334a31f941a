"""Says whether a wheel of flash_transport is installed: exit code 0 and where, or 1 and why not.

usage: find_wheel.py VERSION PREFIX   (what lies under PREFIX does not count)
"""

import os
import sys
from pathlib import Path


def find(version: str, prefix: str) -> "tuple[bool, str]":
    """Whether there is one, and a few words about it."""
    own = os.path.realpath(prefix)
    here = os.path.realpath(os.path.dirname(__file__))  # noqa: PTH120 - as above
    sys.path[:] = [
        path
        for path in sys.path
        if not os.path.realpath(path).startswith(own + os.sep) and os.path.realpath(path) != here
    ]
    # a wheel that cannot be loaded is one that is not there
    os.environ.pop("FLASH_TRANSPORT_IMPLEMENTATION", None)
    try:
        import flash_transport
    except ImportError as error:
        return False, f"no wheel of flash_transport is installed: {error}"
    where = Path(flash_transport.__file__).parent
    found = flash_transport.__version__
    if found != version:
        return False, f"flash_transport in {where} is version {found}, not {version}"
    if flash_transport.implementation != "native":
        from flash_transport._implementation import PURE_REASON

        return False, f"flash_transport in {where} has no compiled half: {PURE_REASON}"
    return True, f"flash_transport {found} in {where}"


if __name__ == "__main__":
    is_there, words = find(*sys.argv[1:3])
    print(words)  # noqa: T201 - for CMake
    sys.exit(0 if is_there else 1)
