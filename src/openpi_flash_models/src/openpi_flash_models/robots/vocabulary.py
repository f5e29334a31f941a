"""The words that describe a robot's numbers to clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from openpi_flash_models.errors import InferenceConfigError

UNITS = ("rad", "m", "rad/s", "m/s", "N m", "N", "1")
"""SI, or ``1``: a number that another one scales, such as a share of a range or of a greatest
speed."""

ROTATION_SIZES = {"rpy": 3, "rotvec": 3, "quat_xyzw": 4, "quat_wxyz": 4, "rot6d": 6}
"""How many numbers each convention of a rotation takes.

``rpy``: roll, pitch and yaw about the fixed axes x, y and z, in this order (REP 103). ``rotvec``:
the axis times the angle in rad. ``quat_xyzw``: a unit quaternion, its real part last; in
``quat_wxyz`` it comes first. ``rot6d``: the first two columns of the rotation matrix (Zhou et al.,
arXiv 1812.07035).
"""

InputKind = Literal["image", "joints", "pose", "vector", "text"]
INPUT_KINDS: tuple[str, ...] = get_args(InputKind)


def check_word(place: str, what: str, value: str, known: Iterable[str]) -> None:
    """Refuse a word that is none of the known ones.

    Args:
        place: of whom, such as ``action elbow``.
        what: the word's name, such as ``unit``.
        value: the word.
        known: those that there are.

    Raises:
        InferenceConfigError: names all of them.
    """
    known = tuple(known)
    if value not in known:
        raise InferenceConfigError(
            f"{place}: {what} is {value!r}, expected one of {', '.join(known)}"
        )
