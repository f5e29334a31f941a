"""Whether the server in this container answers requests: exit code 0 if it does.

Docker shows what it prints (`docker inspect`). The admin port needs no key for this.
"""

import os
import sys
import urllib.error
import urllib.request

PORT = os.environ.get("OPENPI_ADMIN__PORT", "8001")


def main() -> int:
    """Print what /readyz says, or why it says nothing."""
    # no proxy stands between a container and itself
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{PORT}/readyz", timeout=4) as answer:
            print(answer.read().decode().strip())  # noqa: T201
            return 0
    except urllib.error.HTTPError as error:
        print(error.read().decode(errors="replace").strip())  # noqa: T201
    except OSError as error:
        print(f"127.0.0.1:{PORT}: {error}")  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
