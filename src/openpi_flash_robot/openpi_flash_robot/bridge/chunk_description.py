"""What the columns of a chunk are, and what inferred it: the words of an ActionChunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_robot.settings.server_contract import Agreement


@dataclass(frozen=True)
class ChunkDescription:
    """The same for every chunk of one agreement with a server; one entry a column, [N].

    Attributes:
        names: of the axes.
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
    meanings = [axis.meaning for axis in agreement.axes]
    return ChunkDescription(
        names=tuple(axes),
        kinds=tuple(
            "gripper" if axis.is_gripper else axis.meaning.interface for axis in agreement.axes
        ),
        units=tuple(meaning.unit for meaning in meanings),
        references=tuple(meaning.reference for meaning in meanings),
        model=agreement.model,
        checkpoint=agreement.checkpoint,
    )
