"""drop_reason.py: why an inference moved nothing."""

from openpi_flash_robot.bridge.drop_reason import DropReason, drop_reason
from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.link.events import FailureKind


def test_every_failure_has_a_reason_of_its_own():
    reasons = {drop_reason(kind) for kind in FailureKind}
    assert len(reasons) == len(FailureKind)
    assert DropReason.NONE not in reasons


def test_no_reason_to_hold_passes_for_a_chunk_that_was_played():
    assert DropReason.NONE not in {drop_reason(Hold(kind, "why")) for kind in HoldKind}
    assert drop_reason(Hold(HoldKind.LATE, "why")) is DropReason.LATE
    assert drop_reason(Hold(HoldKind.INACTIVE, "why")) is DropReason.OTHER


def test_an_observation_from_before_the_hold_is_named():
    assert drop_reason(None) is DropReason.OLDER_THAN_HOLD
