"""The limits of joints in a robot's description (URDF), as bounds on those of the parameters.

Format: http://wiki.ros.org/urdf/XML/joint. A continuous joint has no position limits; without
`<limit>` a joint has none at all.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree

from openpi_flash_robot.settings.bounds import Bounds

LONGEST = 20_000_000
"""Characters; descriptions are a few hundred thousand, meshes are files of their own."""


class DescriptionError(ValueError):
    """The text is no robot's description."""


def parse_description(text: str) -> dict[str, Bounds]:
    """The bounds of every joint.

    Raises:
        DescriptionError: the text is no URDF.
    """
    if len(text) > LONGEST or "<!ENTITY" in text:
        raise DescriptionError("is too long, or defines entities, which no description needs")
    try:
        robot = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DescriptionError(f"is not XML: {error}") from error
    if robot.tag != "robot":
        raise DescriptionError(f"begins with <{robot.tag}>, expected <robot>")
    return {
        joint.get("name", ""): _bounds(joint, joint.get("name", ""))
        for joint in robot.findall("joint")
    }


def _bounds(joint: ElementTree.Element, name: str) -> Bounds:
    limit = joint.find("limit")
    if limit is None:
        return Bounds()
    velocity = _number(limit, "velocity", math.inf, name)
    if joint.get("type") == "continuous":
        return Bounds(velocity=velocity or math.inf)
    return Bounds(
        # by the format both are 0 where they are left out
        lower=_number(limit, "lower", 0.0, name),
        upper=_number(limit, "upper", 0.0, name),
        velocity=velocity or math.inf,
    )


def _number(limit: ElementTree.Element, key: str, default: float, joint: str) -> float:
    text = limit.get(key)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise DescriptionError(f"has {key} {text!r} for joint {joint}, expected a number")
    return number
