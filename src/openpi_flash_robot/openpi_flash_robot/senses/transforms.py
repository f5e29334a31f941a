"""Where one frame is in another, by the transforms that a robot publishes on /tf and /tf_static.

A transform says where a child is in its parent; the parents make a tree. The pose of one frame in
another follows from the transforms between both, all of one moment: the newest one of which every
moving transform between them is known, each between its two samples around it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.nanoseconds import SECOND
from openpi_flash_robot.senses.frames import CLOCK_JUMP_NS

REMEMBERED_NS = 2 * SECOND
"""How much later the slowest transform between two frames may come than the fastest."""

TOO_SHORT = 1e-6
"""A quaternion that was never set is all zeros."""


@dataclass(frozen=True, eq=False)
class Transform:
    """Where a child is in its parent.

    Attributes:
        position: x, y, z, [3], m.
        quaternion: x, y, z, w, [4], of length 1.
    """

    position: NDArray[np.float64]
    quaternion: NDArray[np.float64]

    def then(self, other: Transform) -> Transform:
        """Where the child of `other` is, whose parent is the child of this."""
        return Transform(
            self.position + _turned(self.quaternion, other.position),
            _product(self.quaternion, other.quaternion),
        )

    def inverse(self) -> Transform:
        """Where the parent is in the child."""
        back = self.quaternion * [-1.0, -1.0, -1.0, 1.0]
        return Transform(-_turned(back, self.position), back)


IDENTITY = Transform(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


@dataclass(frozen=True, eq=False)
class FoundPose:
    """The pose of one frame in another.

    Attributes:
        stamp_ns: of which moment; None if nothing between them moves.
        transform: the pose.
    """

    stamp_ns: int | None
    transform: Transform


class _Edge:
    """The transform of one child, over the last moments."""

    def __init__(self, parent: str, is_static: bool) -> None:
        self.parent, self.is_static = parent, is_static
        self.stamps: list[int] = []
        self.transforms: list[Transform] = []

    def add(self, stamp_ns: int, transform: Transform) -> None:
        if self.stamps and self.stamps[-1] - stamp_ns >= CLOCK_JUMP_NS:
            self.stamps, self.transforms = [], []
        if self.is_static:
            self.stamps, self.transforms = [stamp_ns], [transform]
            return
        if self.stamps and stamp_ns <= self.stamps[-1]:
            return
        self.stamps.append(stamp_ns)
        self.transforms.append(transform)
        old = bisect.bisect_left(self.stamps, stamp_ns - REMEMBERED_NS)
        del self.stamps[:old], self.transforms[:old]

    def at(self, stamp_ns: int | None) -> Transform | None:
        """The transform at a moment; None if it was not known so early."""
        if self.is_static or stamp_ns is None:
            return self.transforms[-1]
        after = bisect.bisect_left(self.stamps, stamp_ns)
        if after == len(self.stamps) or (after == 0 and self.stamps[0] != stamp_ns):
            return None
        if self.stamps[after] == stamp_ns:
            return self.transforms[after]
        begin_ns, end_ns = self.stamps[after - 1], self.stamps[after]
        share = (stamp_ns - begin_ns) / (end_ns - begin_ns)
        return _between(self.transforms[after - 1], self.transforms[after], share)


class TransformTree:
    """The transforms that were heard."""

    def __init__(self) -> None:
        self._edges: dict[str, _Edge] = {}

    def add(
        self,
        stamp_ns: int,
        parent: str,
        child: str,
        position: Sequence[float],
        quaternion: Sequence[float],
        *,
        is_static: bool,
    ) -> bool:
        """Take one transform. False if it was dropped, because its numbers are none.

        Args:
            stamp_ns: of which moment it is.
            parent: in which frame it counts.
            child: whose place it is.
            position: x, y, z, m.
            quaternion: x, y, z, w.
            is_static: whether it holds for ever.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        xyz, xyzw = np.asarray(position, dtype=np.float64), np.asarray(quaternion, dtype=np.float64)
        length = float(np.linalg.norm(xyzw))
        if not (np.isfinite(xyz).all() and np.isfinite(length) and length > TOO_SHORT):
            return False
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or edge.is_static != is_static:
            edge = self._edges[child] = _Edge(parent, is_static)
        edge.add(stamp_ns, Transform(xyz, xyzw / length))
        return True

    def pose(self, frame: str, child: str) -> FoundPose | str:
        """Where a child is in a frame, as new as it is known; else why it is not.

        Args:
            frame: in which it counts.
            child: whose pose it is.
        """
        frame, child = frame.lstrip("/"), child.lstrip("/")
        up, down = self._way_to_root(child), self._way_to_root(frame)
        for name, way in ((child, up), (frame, down)):
            is_parent = any(edge.parent == name for edge in self._edges.values())
            if len(way) == 1 and not is_parent:
                return f"no transform names frame {name}"
        common = next((name for name in up if name in down), None)
        if common is None:
            roots = f"their roots are {down[-1]} and {up[-1]}"
            return f"no transform connects {frame} and {child}: {roots}"
        ways = (up[: up.index(common)], down[: down.index(common)])
        moving = [
            self._edges[name] for way in ways for name in way if not self._edges[name].is_static
        ]
        stamp_ns = min((edge.stamps[-1] for edge in moving), default=None)
        legs = [self._along(way, stamp_ns) for way in ways]
        of_child, of_frame = legs
        if isinstance(of_child, str):
            return of_child
        if isinstance(of_frame, str):
            return of_frame
        return FoundPose(stamp_ns, of_frame.inverse().then(of_child))

    def _way_to_root(self, name: str) -> list[str]:
        way = [name]
        while (edge := self._edges.get(way[-1])) is not None and edge.parent not in way:
            way.append(edge.parent)
        return way

    def _along(self, way: Sequence[str], stamp_ns: int | None) -> Transform | str:
        """Where the first frame of a way is in the parent of its last one, or why not."""
        found = IDENTITY
        for name in way:
            edge = self._edges[name]
            transform = edge.at(stamp_ns)
            if transform is None:
                return f"the transform of {name} in {edge.parent} is newer than all others"
            found = transform.then(found)
        return found


def _turned(q: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """A vector turned by a quaternion."""
    twice = 2.0 * np.cross(q[:3], vector)
    turned: NDArray[np.float64] = vector + q[3] * twice + np.cross(q[:3], twice)
    return turned


def _product(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.append(
        a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3]), a[3] * b[3] - a[:3] @ b[:3]
    )


def _between(first: Transform, second: Transform, share: float) -> Transform:
    """A share of the way; the rotation at a steady rate, on the shorter way."""
    a, b = first.quaternion, second.quaternion
    cosine = float(a @ b)
    b = np.copysign(1.0, cosine) * b
    angle = float(np.arccos(min(abs(cosine), 1.0)))
    weights = np.array([1.0 - share, share])
    if angle > TOO_SHORT:
        weights = np.sin(weights * angle) / np.sin(angle)
    q = weights[0] * a + weights[1] * b
    return Transform(
        first.position + share * (second.position - first.position), q / np.linalg.norm(q)
    )
