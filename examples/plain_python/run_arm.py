"""A robot in plain Python: seven joints, two cameras, no ROS.

`python examples/plain_python/run_arm.py --server 127.0.0.1`
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.plain import PolicyRunner, Reading, RobotFaultError, load_settings

ROBOT_FILE = Path(__file__).parents[2] / "config" / "robots" / "sim_arm.yaml"
LAG_S = 0.03
"""How far the simulated motors are behind what they are told."""


class SimulatedArm:
    """Motors that follow their commands a little late, and cameras that show where the arm is."""

    def __init__(self, joints: int) -> None:
        self._lock = threading.Lock()
        self._told = self._here = np.zeros(joints)
        self._at = time.monotonic()

    def read(self) -> Reading:
        """Where the motors are."""
        with self._lock:
            self._move()
            return Reading(self._here, stamp=self._at)

    def read_images(self) -> dict[str, NDArray[np.uint8]]:
        """A bar for each joint; a real camera may take its time here."""
        time.sleep(0.03)
        with self._lock:
            here = self._here
        picture = np.full((240, 320, 3), 40, np.uint8)
        for joint, position in enumerate(here):
            height = int(np.clip(120 + 40 * position, 4, 236))
            picture[240 - height :, 20 + 40 * joint : 50 + 40 * joint] = (200, 120, 40)
        return {"scene": picture, "wrist": picture[:, ::-1]}

    def command(self, positions: NDArray[np.float64], _: NDArray[np.float64]) -> None:
        """Go there."""
        with self._lock:
            self._move()
            self._told = positions

    def _move(self) -> None:
        now = time.monotonic()
        share = 1.0 - np.exp((self._at - now) / LAG_S)
        self._here, self._at = self._here + share * (self._told - self._here), now


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C, or for some seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--server", default="127.0.0.1", help="name or address of the server")
    parser.add_argument("--port", type=int, default=0, help="0 is the transport's own")
    parser.add_argument("--transport", choices=("quic", "websocket"), default="quic")
    parser.add_argument("--prompt", default="put the red cube on the plate")
    parser.add_argument("--seconds", type=float, help="how long; without it until Ctrl-C")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    settings = load_settings(
        ROBOT_FILE,
        server=chosen.server,
        port=chosen.port,
        transport=chosen.transport,
        prompt=chosen.prompt,
        dry_run=False,  # this arm hurts nobody
    )
    chunks: list[int] = []
    arm = SimulatedArm(len(settings.joints))
    with PolicyRunner(arm, settings, on_chunk=lambda chunk: chunks.append(chunk.sequence)) as run:
        try:
            run.run(chosen.seconds)
        except RobotFaultError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write(f"played {len(chunks)} chunks; the arm stands at {arm.read().positions}\n")
    return 0


if __name__ == "__main__":
    np.set_printoptions(precision=2, suppress=True)
    sys.exit(main())
