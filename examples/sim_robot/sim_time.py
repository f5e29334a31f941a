"""How simulated time, the machine's time and ROS stamps belong together."""

from __future__ import annotations

ADJUSTED = 5_000_000
"""ns; two clocks that are read one after the other differ by less, unless one was adjusted."""


class SimTime:
    """Maps steady seconds to simulated seconds, and those to ROS nanoseconds and back.

    At speed 1 stamps follow the system clock, also where it is adjusted, but not the noise of
    reading it: a controller would shake by that. At any other speed they count from the start,
    and the node publishes them on /clock for `use_sim_time`.
    """

    def __init__(self, speed: float, steady: float, ros_nanoseconds: int) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be greater than 0, got {speed}")
        self.speed = speed
        self._steady_start = steady
        self._offset = ros_nanoseconds

    @property
    def is_wall_time(self) -> bool:
        """Whether stamps are the system's time, so that nobody needs /clock."""
        return self.speed == 1.0

    def now(self, steady: float, ros_nanoseconds: int) -> float:
        """Return the simulated seconds that have passed since the start."""
        seconds = self.speed * (steady - self._steady_start)
        offset = ros_nanoseconds - round(seconds * 1e9)
        if self.is_wall_time and abs(offset - self._offset) > ADJUSTED:
            self._offset = offset
        return seconds

    def wait(self, seconds: float) -> None:
        """Let simulated seconds take longer: `now` goes back by so many, before anybody heard it.

        Raises:
          ValueError: the time is the wall's, which waits for nobody.
        """
        if self.is_wall_time:
            raise ValueError("wall time waits for nobody")
        self._steady_start += seconds / self.speed

    def to_ros(self, seconds: float) -> int:
        """Return the ROS time of a simulated second, in nanoseconds."""
        return self._offset + round(seconds * 1e9)

    def from_ros(self, nanoseconds: int) -> float:
        """Return the simulated second of a ROS time."""
        return (nanoseconds - self._offset) * 1e-9
