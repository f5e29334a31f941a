"""An action chunk broker on the clock: which action is due, and when to ask for the next chunk.

Sans-IO: `now` is an argument, integer nanoseconds of one steady clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openpi_flash_robot.bridge.request_schedule import RequestSchedule
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.answer import AnswerError, parse_answer, rtc_of
from openpi_flash_robot.play.chunk import Chunk
from openpi_flash_robot.play.chunk_player import ChunkPlayer
from openpi_flash_robot.play.plan import Plan
from openpi_flash_robot.run.pacing import Pacing
from openpi_flash_robot.senses.frames import FrameSet
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.observation import Observation
from openpi_flash_robot.senses.states import StateReading
from openpi_flash_robot.settings.axis_play import AxisPlay, CannotPlayError, Reading, play_of
from openpi_flash_robot.settings.node_settings import PlayerSettings
from openpi_flash_robot.settings.parse_settings import player_from_parameters
from openpi_flash_robot.settings.server_contract import Agreement, ContractError, ServerContract

Actions = NDArray[np.float64]

FIRST_PERIOD_NS = 50_000_000
"""How often a program asks, before it is known."""


@dataclass(frozen=True, eq=False)
class Due:
    """The action of one moment.

    Attributes:
        actions: in the policy's own units and columns, [D].
        hold: why it stands still; None while a chunk is played.
    """

    actions: Actions
    hold: Hold | None


class ChunkPlayback:
    """Plays a server's chunks, one after the other, in the policy's own units and columns."""

    def __init__(
        self, agreement: Agreement, player: PlayerSettings, execution_horizon: int
    ) -> None:
        """Begin with nothing to play.

        Args:
            agreement: of `agree_alone`.
            player: of `player_of`.
            execution_horizon: steps after an observation at which the next one is sent at the
                latest.
        """
        self._agreement = agreement
        self._horizon = execution_horizon
        self._player = ChunkPlayer(tuple(axis.meaning.name for axis in agreement.axes), player)
        self._schedule: RequestSchedule[Any] = RequestSchedule()
        no_rates = np.zeros(len(agreement.axes), dtype=np.bool_)
        self._pacing = Pacing(self._player.limits, FIRST_PERIOD_NS, no_rates)
        self._called_ns: int | None = None
        self._sequence = 0

    def is_due(self, now: int) -> bool:
        """Whether the next observation is to be sent."""
        lead_ns = self._player.lead_ns
        return self._schedule.is_due(now, self._player.plan, self._horizon, lead_ns)

    def ask(self, now: int) -> tuple[int, dict[str, Any]]:
        """Note that an observation of this moment is sent; its number, and what it says of rtc."""
        continuation = None
        if "rtc" in self._agreement.supports:
            takes_over_ns = now + self._schedule.expected_ns + self._player.lead_ns
            continuation = self._player.continuation(now, takes_over_ns, self._horizon)
        # an observation without cameras: the user's own, taken now
        moment: Observation[Any] = Observation(
            FrameSet({}, now, now), JointReading(np.zeros(0), now), StateReading({}, now), ""
        )
        request = self._schedule.send(now, moment)
        more = {"rtc": rtc_of(continuation, self._agreement)} if continuation else {}
        return request.request_id, more

    def answer(
        self, now: int, number: int, result: Mapping[str, Any], measured: Actions | None
    ) -> Hold | None:
        """Take an answer; why it is not played, None if it is or if nobody waits for it.

        Args:
            now: this moment.
            number: of `ask`.
            result: as the server sent it.
            measured: where the robot is, [D]; None: where its chunk begins.
        """
        request = self._schedule.finish(now, number, is_answered=True)
        if request is None:
            return None
        try:
            actions = parse_answer(result, self._agreement).actions
        except AnswerError as error:
            return self._refuse(now, Hold(HoldKind.BAD_CHUNK, str(error)))
        axes = self._agreement.axes
        self._sequence += 1
        outcome = self._player.accept(
            Chunk(
                actions=actions,
                step_ns=self._agreement.step_ns,
                observation_ns=request.sent_ns,
                sequence=self._sequence,
                grippers=tuple(axis.is_gripper for axis in axes),
            ),
            now=now,
            measured=np.full(len(axes), np.nan) if measured is None else measured,
        )
        if isinstance(outcome, Plan):
            return None
        if outcome is None:  # of before it came to hold
            self._schedule.ask_at_once()
            return None
        return self._refuse(now, outcome)

    def fail(self, now: int, number: int, reason: Hold) -> None:
        """There is no answer: hold, and ask again a little later."""
        if self._schedule.finish(now, number, is_answered=False) is not None:
            self._refuse(now, reason)

    def lose(self, now: int, reason: Hold) -> None:
        """The link is lost, and with it the request in flight: hold."""
        self._schedule.lose()
        self._player.hold(reason, now)

    def _refuse(self, now: int, reason: Hold) -> Hold:
        self._schedule.retry_later(now)
        return self._player.hold(reason, now)

    def due(self, now: int) -> Due | None:
        """The action of this moment; None before the first chunk."""
        outcome, motion = self._player.step(now), self._player.motion
        if motion is None:
            return None
        told = self._pacing.next(now, motion.sample(now))
        self._learn_period(now)
        return Due(told.positions, outcome if isinstance(outcome, Hold) else None)

    def _learn_period(self, now: int) -> None:
        """How often the program asks; a loop that is stopped once is no slower loop."""
        gap_ns = 0 if self._called_ns is None else now - self._called_ns
        self._called_ns = now
        if gap_ns > 0:
            pacing = self._pacing
            pacing.period_ns = min(max(gap_ns, pacing.period_ns // 2), 2 * pacing.period_ns)

    def reset(self, now: int) -> None:
        """Forget the running chunk: the next one begins anew."""
        self._schedule.forget()
        self._player.hold(Hold(HoldKind.REQUESTED, "reset; waiting for the first chunk"), now)
        self._player.forget()
        self._pacing.forget()


def agree_alone(
    contract: ServerContract, *, action_kind: str, action_rate_hz: float, column_count: int | None
) -> Agreement:
    """What a server's chunks are, for a program that plays them in the policy's own columns.

    Args:
        contract: the server's metadata.
        action_kind: what the numbers are where the server does not say it; position or gripper.
        action_rate_hz: steps per second; 0: the server's.
        column_count: of its chunks, where the metadata does not say it.

    Raises:
        ContractError: something is not known, or is no absolute position.
    """
    rate_hz = action_rate_hz or contract.action_rate_hz
    if not rate_hz:
        raise ContractError(
            "the server's metadata has no action_rate_hz; pass action_rate_hz, the steps per "
            "second of its actions (openpi's servers never send it)"
        )
    count = contract.action_dim or column_count or 0
    names = contract.action_names or tuple(map(str, range(count)))
    if not names:
        raise ContractError(
            "the server's metadata has neither action_names nor action_dim; pass action_dim, the "
            "number of columns of its actions"
        )
    meanings = contract.actions or (None,) * len(names)
    if len(meanings) != len(names):
        raise ContractError(f"the server describes {len(meanings)} actions, and has {len(names)}")
    axes = []
    for name, meaning in zip(names, meanings, strict=True):
        if "eef_pose" in (action_kind, meaning.interface if meaning else ""):
            raise ContractError(
                f"the server's action {meaning or name} is part of a pose, whose rotation is not "
                "played column by column; use the runner with a controller of kind pose"
            )
        try:
            axis = play_of(
                name, meaning, kind=action_kind, scale=1.0, gripper=None, controller=None
            )
        except CannotPlayError as error:
            raise ContractError(str(error)) from None
        axes.append(_absolute(axis))
    return Agreement(
        step_ns=round(1e9 / rate_hz),
        columns=tuple(range(len(axes))),
        column_count=len(axes),
        axes=tuple(axes),
        horizon=contract.action_horizon,
        images={},
        supports=contract.supports,
        model=contract.model,
        checkpoint=contract.checkpoint,
        warnings=(),
    )


def _absolute(axis: AxisPlay) -> AxisPlay:
    if axis.reading is not Reading.ABSOLUTE:
        raise ContractError(
            f"the server's action {axis.meaning} is no absolute position: between two of its steps "
            "there is nothing to draw a line through; use open_loop_horizon of flash_transport's "
            "policies, or the runner with axes and controllers"
        )
    return axis


def player_of(
    given: Mapping[str, Any], axes: tuple[str, ...], *, is_measured: bool
) -> PlayerSettings:
    """The player's settings, from the node's parameters.

    Args:
        given: what the user set.
        axes: names of the policy's columns.
        is_measured: whether the program says where the robot is.

    Raises:
        ParameterError: one is unknown, of the wrong type, or out of range.
    """
    # what is returned is commanded, without delay, and is nobody's tracking error
    ours = {"dry_run": False, "min_lead_time": 0.0, "max_tracking_error": [0.0]}
    return player_from_parameters({**given, **ours}, axes, axes if is_measured else ())
