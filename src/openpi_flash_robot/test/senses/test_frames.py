"""frames.py: the newest frames that belong to one moment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_robot.hold import Hold, HoldKind
from openpi_flash_robot.senses.frames import RING_SIZE, CameraFrames, FrameSet

MS = 1_000_000
BLIND = {"max_blind_ns": 500 * MS, "max_age_ns": 200 * MS}
TOPICS = {"scene": "/scene/image_raw", "wrist": "/wrist/image_raw"}
LIMITS = {"max_age_ns": 200 * MS, "max_skew_ns": 50 * MS}


def frames_with(**stamps_ms):
    frames = CameraFrames(TOPICS)
    for camera, stamps in stamps_ms.items():
        for stamp in stamps:
            frames.add(camera, stamp * MS, f"{camera}@{stamp}")
    return frames


def chosen(frames, now_ms, **changes):
    found = frames.newest_set(now_ms * MS, **(LIMITS | changes))
    assert isinstance(found, FrameSet), found
    return {name: frame.message for name, frame in found.frames.items()}


def reason(frames, now_ms, **changes):
    found = frames.newest_set(now_ms * MS, **(LIMITS | changes))
    assert isinstance(found, Hold), found
    assert found.kind is HoldKind.OBSERVATION
    return found.message


def test_the_moment_is_the_newest_stamp_that_every_camera_has_reached():
    frames = frames_with(scene=[100, 133, 166], wrist=[98, 131])
    assert chosen(frames, 170) == {"scene": "scene@133", "wrist": "wrist@131"}


def test_of_a_slower_camera_the_nearest_frame_is_taken_also_a_later_one():
    frames = frames_with(scene=[100, 110, 120, 130, 140], wrist=[60, 124])
    assert chosen(frames, 150) == {"scene": "scene@120", "wrist": "wrist@124"}


def test_a_set_reports_its_oldest_stamp_and_its_skew():
    found = frames_with(scene=[100], wrist=[130]).newest_set(140 * MS, **LIMITS)
    assert found.oldest_ns == 100 * MS
    assert found.skew_ns == 30 * MS


def test_a_camera_that_never_spoke_is_named_with_its_topic():
    assert reason(frames_with(scene=[100]), 110) == (
        "no image received yet from camera wrist (/wrist/image_raw)"
    )


def test_why_a_camera_never_spoke_is_said_until_it_does():
    frames = frames_with(scene=[100])
    assert frames.unheard == ["wrist"]
    frames.explain_silence("wrist", "nobody publishes /wrist/image_raw")
    assert reason(frames, 110) == (
        "no image received yet from camera wrist (/wrist/image_raw): nobody publishes "
        "/wrist/image_raw"
    )
    frames.add("wrist", 0, "no stamp")
    assert frames.unheard == []
    frames.add("wrist", 100 * MS, "one")
    assert frames.unheard == []
    assert chosen(frames, 110)["wrist"] == "one"


def test_a_stale_camera_is_named_with_its_age():
    assert reason(frames_with(scene=[500], wrist=[100]), 510) == (
        "camera wrist (/wrist/image_raw) is stale: its newest image is 0.41 s old, "
        "max_observation_age is 0.20 s"
    )


def test_too_much_skew_is_a_reason_that_names_both_cameras():
    assert reason(frames_with(scene=[100], wrist=[160]), 170) == (
        "cameras scene and wrist are 0.060 s apart, max_camera_skew is 0.050 s"
    )


def test_a_camera_whose_clock_is_ahead_is_a_reason():
    assert reason(frames_with(scene=[100], wrist=[900]), 110) == (
        "camera wrist (/wrist/image_raw) is stamped 0.79 s in the future; "
        "synchronise the clocks of the camera and of this computer"
    )


def test_frames_without_a_stamp_are_dropped_and_the_reason_says_so():
    frames = frames_with(scene=[100])
    assert not frames.add("wrist", 0, "no stamp")
    assert reason(frames, 110) == (
        "camera wrist (/wrist/image_raw) sends images without header.stamp; they are not used: "
        "have its driver set it, or set camera.wrist.stamp to arrival"
    )
    assert frames.newest_stamp("wrist") is None


def test_a_camera_that_stops_to_stamp_its_images_is_named_for_that_and_not_as_silent():
    frames = frames_with(scene=[1_000], wrist=[100])
    frames.add("wrist", 0, "no stamp")
    assert "sends images without header.stamp" in reason(frames, 1_010)
    assert "sends images without header.stamp" in frames.blind(1_010 * MS, **BLIND).message
    frames.add("wrist", 200 * MS, "a stamp again")
    assert "is stale" in reason(frames, 1_010)
    assert "is silent" in frames.blind(1_010 * MS, **BLIND).message


def test_a_frame_that_comes_out_of_order_is_dropped():
    frames = frames_with(scene=[100], wrist=[100])
    assert not frames.add("wrist", 99 * MS, "late")
    assert not frames.add("wrist", 100 * MS, "again")
    assert chosen(frames, 110)["wrist"] == "wrist@100"


def test_when_time_is_set_back_a_camera_starts_anew():
    frames = frames_with(scene=[5000], wrist=[5000])
    assert frames.add("scene", 100 * MS, "scene@100")
    assert frames.add("wrist", 100 * MS, "wrist@100")
    assert chosen(frames, 110) == {"scene": "scene@100", "wrist": "wrist@100"}


def test_clear_forgets_everything():
    frames = frames_with(scene=[100], wrist=[100])
    frames.clear()
    assert "no image received yet" in reason(frames, 110)


def test_a_ring_keeps_only_the_latest_frames():
    frames = frames_with(scene=range(1, 100), wrist=[99 - RING_SIZE + 1])
    assert chosen(frames, 100)["scene"] == f"scene@{99 - RING_SIZE + 1}"


@given(
    scene=st.lists(st.integers(1, 400), min_size=1, max_size=20),
    wrist=st.lists(st.integers(1, 400), min_size=1, max_size=20),
    now=st.integers(1, 500),
    skew=st.integers(0, 100),
)
def test_a_set_is_never_older_nor_wider_than_allowed(scene, wrist, now, skew):
    frames = frames_with(scene=scene, wrist=wrist)
    found = frames.newest_set(now * MS, max_age_ns=200 * MS, max_skew_ns=skew * MS)
    if isinstance(found, FrameSet):
        assert found.skew_ns <= skew * MS
        newest = {name: frames.newest_stamp(name) for name in TOPICS}
        assert all(abs(now * MS - stamp) <= 200 * MS for stamp in newest.values())
        assert found.oldest_ns <= min(newest.values())


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_cameras_works(count):
    frames = CameraFrames({f"c{i}": f"/c{i}" for i in range(count)})
    for index in range(count):
        frames.add(f"c{index}", (100 + index) * MS, index)
    assert list(chosen(frames, 110).values()) == list(range(count))
