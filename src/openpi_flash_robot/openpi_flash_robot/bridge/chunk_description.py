"""What the columns of a chunk are, and what inferred it: the words of an ActionChunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_robot.settings.pose_columns import axis_columns
from openpi_flash_robot.settings.server_contract import Agreement


@dataclass(frozen=True)
class ChunkDescription:
    """The same for every chunk of one agreement with a server; one entry a column, [C].

    Attributes:
        names: of the axes; of the columns where a rotation has more of them.
        kinds: such as position, gripper.
        units: such as rad.
        references: such as absolute.
        model: what the server serves; empty where it does not say.
        checkpoint: name of its weights; empty where it does not say.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    references: tuple[str, ...]
    model: str
    checkpoint: str


def describe(axes: Sequence[str], agreement: Agreement) -> ChunkDescription:
    """Describe the chunks of a server.

    Args:
        axes: the robot's, in their order.
        agreement: what server and robot have settled on.
    """
    firsts = axis_columns(len(axes), agreement.poses)
    plays = dict(zip(firsts, agreement.axes, strict=True))
    names = agreement.names or tuple(axes)
    # the columns of a rotation mean what its first one does
    columns = [plays[max(first for first in plays if first <= c)] for c in range(len(names))]
    meanings = [play.meaning for play in columns]
    return ChunkDescription(
        names=names,
        kinds=tuple("gripper" if play.is_gripper else play.meaning.interface for play in columns),
        units=tuple(meaning.unit for meaning in meanings),
        references=tuple(meaning.reference for meaning in meanings),
        model=agreement.model,
        checkpoint=agreement.checkpoint,
    )
