"""What the simulated robot says of its scene: the truth, which no policy is told. Pure.

A report is JSON in a `std_msgs/String`, so that it needs no messages of its own and can be read in
`ros2 topic echo`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from sim_robot.scene_state import SceneState
from sim_robot.tasks import Outcome, Progress

COMMAND_PERIOD = 0.02
"""Simulated seconds between two of the velocities in a report."""


@dataclass(frozen=True)
class SceneReport:
    """One moment.

    Attributes:
        stamp_ns: of the joint states of this moment, on the ROS clock.
        state: what is true.
        episode: number of the running episode; 0: none was ordered yet.
        progress: how far it has come; its times are those of `state`.
        pictures: how many of each camera were published since the episode began.
        commanded: velocities of the six arm joints that the controller wanted, rad/s, every
            `COMMAND_PERIOD` since the report before.
    """

    stamp_ns: int
    state: SceneState
    episode: int = 0
    progress: Progress = field(default_factory=Progress)
    pictures: int = 0
    commanded: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> str:
        """As text."""
        state, progress = self.state, self.progress
        return json.dumps(
            {
                "stamp_ns": self.stamp_ns,
                "time": state.time,
                "episode": self.episode,
                "outcome": progress.outcome.value,
                "reached_at": dict(progress.reached_at),
                "chosen": progress.chosen,
                "held_since": progress.held_since,
                "ended_at": progress.ended_at,
                "touched": sorted(state.touched),
                "gripped": sorted(state.gripped),
                "on_plate": sorted(state.on_plate),
                "joints": state.joints,
                "cubes": state.cubes,
                "pictures": self.pictures,
                "commanded": self.commanded,
            }
        )


def parse_report(text: str) -> SceneReport:
    """Read what `SceneReport.to_json` has written."""
    said = json.loads(text)
    return SceneReport(
        stamp_ns=said["stamp_ns"],
        state=SceneState(
            time=said["time"],
            joints=tuple(said["joints"]),
            cubes=tuple((x, y, z) for x, y, z in said["cubes"]),
            touched=frozenset(said["touched"]),
            gripped=frozenset(said["gripped"]),
            on_plate=frozenset(said["on_plate"]),
        ),
        episode=said["episode"],
        progress=Progress(
            reached_at=said["reached_at"],
            chosen=said["chosen"],
            held_since=said["held_since"],
            outcome=Outcome(said["outcome"]),
            ended_at=said["ended_at"],
        ),
        pictures=said["pictures"],
        commanded=tuple(tuple(row) for row in said["commanded"]),
    )
