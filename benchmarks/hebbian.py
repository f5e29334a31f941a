"""Hebbian's openpi-flash as a peer: its own Python classes and its own binary, from a checkout.

The checkout is the user's: nothing of it is in this repository. docs/benchmarks.md says how to make
and build one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

BINARY = Path("flash-transport") / "target" / "release" / "openpi-flash-transport"
PACKAGES = (
    Path("src"),
    Path("packages") / "openpi-flash-client" / "src",
    Path("packages") / "openpi-flash-transport" / "src",
)


def checkout_environment(checkout: Path) -> dict[str, str]:
    """Return the environment in which Python finds the checkout's packages and its binary.

    Raises:
        SystemExit: the path is no such checkout, or its binary is not built.
    """
    checkout = checkout.resolve()
    folders = [checkout / package for package in PACKAGES]
    for folder in folders:
        if not folder.is_dir():
            raise SystemExit(
                f"--hebbian {checkout}: no folder {folder.relative_to(checkout)}; give a checkout "
                "of https://github.com/Hebbian-Robotics/openpi-flash"
            )
    if not (checkout / BINARY).is_file():
        raise SystemExit(
            f"--hebbian {checkout}: no file {BINARY}; "
            f"run: (cd {checkout / 'flash-transport'} && cargo build --release)"
        )
    others = os.environ.get("PYTHONPATH", "")
    return {
        "PYTHONPATH": os.pathsep.join([*map(str, folders), *([others] if others else [])]),
        "OPENPI_FLASH_TRANSPORT_BINARY": str(checkout / BINARY),
        # its client process writes its log to the standard output that it inherits
        "RUST_LOG": "off",
    }


def commit(checkout: Path) -> str:
    """Return the short hash of the checkout's commit, or "unknown commit"."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown commit"
