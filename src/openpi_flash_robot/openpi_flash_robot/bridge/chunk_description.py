"""What the columns of a chunk are, and what inferred it: the words of an ActionChunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openpi_flash_robot.settings.action_meaning import ActionMeaning
from openpi_flash_robot.settings.server_contract import Agreement


@dataclass(frozen=True)
class ChunkDescription:
    """The same for every chunk of one agreement with a server; one entry a column, [N].

    Attributes:
        names: of the joints.
        kinds: such as position, gripper.
        units: such as rad; empty where the server does not say.
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


def describe(
    joints: Sequence[str], agreement: Agreement, meanings: Sequence[ActionMeaning] | None
) -> ChunkDescription:
    """Describe the chunks of a server.

    Args:
        joints: the robot's, in their order.
        agreement: what server and robot have settled on.
        meanings: the server's words for its columns, in its order; None: it does not say, and the
            node's parameters say that they are absolute positions.
    """
    ours: Sequence[ActionMeaning]
    if meanings is not None:
        ours = [meanings[column] for column in agreement.columns]
    else:
        ours = [ActionMeaning(joint, "position", "", "absolute") for joint in joints]
    kinds = (
        "gripper" if is_gripper else meaning.interface
        for meaning, is_gripper in zip(ours, agreement.grippers, strict=True)
    )
    return ChunkDescription(
        names=tuple(joints),
        kinds=tuple(kinds),
        units=tuple(meaning.unit for meaning in ours),
        references=tuple(meaning.reference for meaning in ours),
        model=agreement.model,
        checkpoint=agreement.checkpoint,
    )
