"""A ROS domain that nobody else on this machine uses, so that two runs never hear each other."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

LAST_DOMAIN = 101
"""Above it, DDS ports reach into the range Linux gives to outgoing connections."""


@contextlib.contextmanager
def reserved_ros_domain() -> Iterator[int]:
    """Yield a free ROS_DOMAIN_ID and keep it from other runs until the context ends.

    Raises:
      RuntimeError: every domain is taken.
    """
    candidates = list(range(1, LAST_DOMAIN + 1))
    random.SystemRandom().shuffle(candidates)
    for domain in candidates:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as reservation:
            try:
                # An abstract name: the kernel drops it with the process, however that ends.
                reservation.bind(f"\0openpi-flash-ros-domain-{domain}")
            except OSError:
                continue
            if _is_silent(domain):
                yield domain
                return
    raise RuntimeError(f"all ROS domains from 1 to {LAST_DOMAIN} are in use on this machine")


def _is_silent(domain: int) -> bool:
    """Return whether no DDS participant listens in a domain."""
    first_participant = 7400 + 250 * domain + 10
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind(("", first_participant))
        except OSError:
            return False
    return True
