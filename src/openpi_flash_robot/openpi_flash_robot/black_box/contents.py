"""What a file of the black box holds, as arrays over time, for drawing."""

from __future__ import annotations

import base64
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.black_box.mcap_reader import NotABlackBoxError, read_messages

Array = NDArray[np.float64]
REST_S = 0.1
"""Between two commands that are farther apart, the controller has played all of the first one."""


@dataclass(frozen=True, eq=False)
class Track:
    """One value over time.

    Attributes:
        times: seconds since `Contents.began_ns`, [T].
        values: [T].
    """

    times: Array
    values: Array

    def within(self, begin: float, end: float) -> Track:
        """The part between two times."""
        kept = (self.times >= begin) & (self.times <= end)
        return Track(self.times[kept], self.values[kept])


@dataclass(frozen=True)
class Band:
    """A time in which state and cause were the same; `message` is the first of it."""

    begin: float
    end: float
    state: str
    cause: str
    message: str


@dataclass(frozen=True)
class Exchange:
    """A request and what came of it; `error` is empty if that was an answer."""

    sent: float
    done: float
    error: str


@dataclass(frozen=True, eq=False)
class Contents:
    """A file, by joint and by camera. Times are seconds since `began_ns`.

    Attributes:
        node: full name of the node.
        cause: why the file was written.
        joints: names in the order of the policy.
        began_ns: when its first message was recorded, on the ROS clock.
        end: when the last one was.
        measured: positions by joint, rad or m.
        measured_velocities: by joint, from the driver, or else from the positions.
        commanded: positions by joint; planned ones if nothing was commanded (a dry run).
        commanded_velocities: the same for velocities.
        is_dry: whether nothing was commanded.
        bands: the status.
        chunks: when each accepted chunk came, and when its observation was taken, [C, 2].
        exchanges: requests and answers.
        arrivals: by camera, and "joints": when each message came, and its stamp, [M, 2].
        frames: by camera: time of the stamp, JPEG.
        warnings: time and text.
        stops: time, topic and value of what the stop inputs said.
    """

    node: str
    cause: str
    joints: tuple[str, ...]
    began_ns: int
    end: float
    measured: Mapping[str, Track]
    measured_velocities: Mapping[str, Track]
    commanded: Mapping[str, Track]
    commanded_velocities: Mapping[str, Track]
    is_dry: bool
    bands: tuple[Band, ...]
    chunks: Array
    exchanges: tuple[Exchange, ...]
    arrivals: Mapping[str, Array]
    frames: Mapping[str, Sequence[tuple[float, bytes]]]
    warnings: tuple[tuple[float, str], ...]
    stops: tuple[tuple[float, str, bool], ...]

    @property
    def fault(self) -> Band | None:
        """The last time that the cause of the file began; None for a file on request."""
        name = self.cause.upper()
        found = [
            band
            for before, band in zip((None, *self.bands), self.bands)  # noqa: B905 - one is longer
            if band.cause == name and (before is None or before.cause != name)
        ]
        return found[-1] if found else None


def read_contents(content: bytes) -> Contents:
    """Take a file apart; one that ends too soon as far as it goes.

    Raises:
        NotABlackBoxError: it is no file of the black box.
    """
    by_topic: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    first_ns: int | None = None
    last_ns = 0
    for topic, log_ns, data in read_messages(content):
        by_topic[topic].append((log_ns, json.loads(data)))
        first_ns = log_ns if first_ns is None else min(first_ns, log_ns)
        last_ns = max(last_ns, log_ns)
    if first_ns is None or "/recording" not in by_topic:
        raise NotABlackBoxError("the file holds no message on /recording, as a black box's does")
    return _Reader(by_topic, first_ns, last_ns).contents()


class _Reader:
    def __init__(
        self, by_topic: Mapping[str, list[tuple[int, dict[str, Any]]]], began_ns: int, end_ns: int
    ) -> None:
        self._by_topic = by_topic
        self._began_ns = began_ns
        self._end = self._seconds(end_ns)

    def contents(self) -> Contents:
        about = self._by_topic["/recording"][0][1]
        commands = self._named("/command/")
        motions = [motion for found in commands.values() for motion in found]
        is_dry = not motions
        if is_dry:
            motions = self._of("/plan")
        return Contents(
            node=about["node"],
            cause=about["cause"],
            joints=tuple(about["joints"]),
            began_ns=self._began_ns,
            end=self._end,
            measured=self._measured("positions"),
            measured_velocities=self._measured("velocities") or self._derived(),
            commanded=_tracks(self._points(motions, "points")),
            commanded_velocities=_tracks(self._points(motions, "point_velocities")),
            is_dry=is_dry,
            bands=self._bands(),
            chunks=np.array(
                [(at, self._time(chunk["observation_stamp"])) for at, chunk in self._of("/chunk")]
            ).reshape(-1, 2),
            exchanges=self._exchanges(),
            arrivals={
                name: np.array([(at, self._time(values["stamp"])) for at, values in found])
                for name, found in {
                    **self._named("/camera/"),
                    "joints": self._of("/joints"),
                }.items()
                if found
            },
            frames={
                name: [
                    (self._time(values["timestamp"]), base64.b64decode(values["data"]))
                    for _, values in found
                ]
                for name, found in self._named("/frame/").items()
            },
            warnings=tuple((at, values["message"]) for at, values in self._of("/log")),
            stops=tuple((at, v["topic"], v["value"]) for at, v in self._of("/stop_input")),
        )

    def _of(self, topic: str) -> list[tuple[float, dict[str, Any]]]:
        return [(self._seconds(at), values) for at, values in self._by_topic.get(topic, [])]

    def _named(self, prefix: str) -> dict[str, list[tuple[float, dict[str, Any]]]]:
        """The messages of all topics of a kind, by what follows in their names."""
        return {
            topic.removeprefix(prefix): self._of(topic)
            for topic in sorted(self._by_topic)
            if topic.startswith(prefix)
        }

    def _seconds(self, at_ns: int) -> float:
        return (at_ns - self._began_ns) / 1e9

    def _time(self, time: Mapping[str, int]) -> float:
        return self._seconds(time["sec"] * 1_000_000_000 + time["nsec"])

    def _measured(self, kind: str) -> dict[str, Track]:
        points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _, values in self._of("/joints"):
            at = self._time(values["stamp"])
            for name, value in values[kind].items():
                points[name].append((at, math.nan if value is None else value))
        return _tracks(points)

    def _derived(self) -> dict[str, Track]:
        """Velocities from positions, where the driver gives none."""
        derived = {}
        for name, track in self._measured("positions").items():
            kept = np.concatenate([[True], np.diff(track.times) > 0])
            times, values = track.times[kept], track.values[kept]
            if len(times) > 1:
                between = (times[1:] + times[:-1]) / 2
                derived[name] = Track(between, np.diff(values) / np.diff(times))
        return derived

    def _points(
        self, motions: Sequence[tuple[float, dict[str, Any]]], kind: str
    ) -> dict[str, list[tuple[float, float]]]:
        """By joint what was commanded, until the next motion for it takes over."""
        by_joint: dict[str, list[tuple[float, dict[str, Any], int]]] = defaultdict(list)
        for _, motion in motions:
            start = self._time(motion["start"])
            for column, joint in enumerate(motion["joints"]):
                by_joint[joint].append((start, motion, column))
        points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for joint, found in by_joint.items():
            following = [start for start, _, _ in found[1:]] + [math.inf]
            for (start, motion, column), until in zip(found, following, strict=True):
                count = 1 if until - start < REST_S else len(motion["times"])
                for at, row in zip(motion["times"][:count], motion[kind], strict=False):
                    if start + at < until:
                        points[joint].append((start + at, row[column]))
            points[joint].append((max(self._end, points[joint][-1][0]), points[joint][-1][1]))
        return points

    def _bands(self) -> tuple[Band, ...]:
        bands: list[Band] = []
        for at, values in self._of("/status"):
            state, cause = values["state"], values["cause"]
            if bands:
                last = bands[-1]
                bands[-1] = Band(last.begin, at, last.state, last.cause, last.message)
                if (last.state, last.cause) == (state, cause):
                    continue
            bands.append(Band(at, at, state, cause, values["message"]))
        if bands:
            last = bands[-1]
            bands[-1] = Band(last.begin, self._end, last.state, last.cause, last.message)
        return tuple(bands)

    def _exchanges(self) -> tuple[Exchange, ...]:
        answers = {values["request_id"]: (at, values) for at, values in self._of("/answer")}
        exchanges = []
        for sent, values in self._of("/request"):
            done, answer = answers.get(values["request_id"], (math.nan, {"error": "no answer"}))
            exchanges.append(Exchange(sent, done, answer["error"]))
        return tuple(exchanges)


def _tracks(points: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Track]:
    tracks = {}
    for name, found in points.items():
        table = np.array(found)
        tracks[name] = Track(table[:, 0], table[:, 1])
    return tracks
