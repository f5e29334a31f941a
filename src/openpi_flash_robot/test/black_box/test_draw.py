"""draw.py, contents.py, picture.py: what the picture shows is what happened."""

import subprocess
import sys

import numpy as np
import pytest
from bridge_world import JOINTS, MEASURED, MS, moving
from recorded_world import RecordedWorld, written

from flash_transport import encode_jpeg
from openpi_flash_robot.black_box import draw
from openpi_flash_robot.black_box.contents import read_contents
from openpi_flash_robot.black_box.mcap_reader import NotABlackBoxError
from openpi_flash_robot.black_box.records import SmallFrame
from openpi_flash_robot.bridge.effects import SendRequest, Warn
from openpi_flash_robot.bridge.status import Cause

imread = pytest.importorskip("matplotlib.image").imread
picture = pytest.importorskip("openpi_flash_robot.black_box.picture")


def moves(world):
    """Let it run, move for most of a second, and record what it is commanded in every period."""
    world.run()
    world.answer(world.pass_time(1_000, until=SendRequest), moving())
    commanded = []
    for _ in range(40):
        world.pass_time(20)
        commanded.append((world.now, world.controller.reference(world.now)))
    return commanded


@pytest.fixture
def world(settings):
    return RecordedWorld(settings)


@pytest.fixture
def stuck(world):
    """A world whose arm has stopped, and what it was commanded until then."""
    commanded = moves(world)
    world.stuck_at = world.measured
    world.pass_time(3_000)
    assert world.status.cause is Cause.TRACKING
    return world, commanded


def test_commands_are_what_the_controller_wanted_at_each_moment(stuck):
    world, commanded = stuck
    contents = read_contents(written(world.recorder, "tracking"))
    assert not contents.is_dry
    times = [(at - contents.began_ns) / 1e9 for at, _ in commanded]
    for column, joint in enumerate(JOINTS):
        for tracks, wanted in (
            (contents.commanded, [state.positions[column] for _, state in commanded]),
            (contents.commanded_velocities, [state.velocities[column] for _, state in commanded]),
        ):
            track = tracks[joint]
            assert np.all(np.diff(track.times) >= 0)
            np.testing.assert_allclose(
                np.interp(times, track.times, track.values), wanted, atol=2e-6
            )


def test_after_the_last_command_the_controller_plays_it_to_its_end(world):
    moves(world)
    before = world.now
    world.stuck_at = world.measured
    world.bridge.hold(world.now)
    world.pass_time(3_000)
    contents = read_contents(written(world.recorder))
    track = contents.commanded["shoulder"]
    assert track.times[-1] == pytest.approx(contents.end)
    assert track.values[-1] == pytest.approx(
        world.controller.reference(world.now).positions[0], abs=2e-6
    )
    assert track.values[-1] > np.interp(
        (before - contents.began_ns) / 1e9, track.times, track.values
    )


def test_the_fault_and_the_bands_before_it(stuck):
    world, _ = stuck
    contents = read_contents(written(world.recorder, "tracking"))
    assert contents.fault is not None
    assert contents.fault.message.startswith("joint shoulder does not follow")
    assert [(band.state, band.cause) for band in contents.bands] == [
        ("HOLDING", "WAITING"),
        ("RUNNING", "NONE"),
        ("HOLDING", "EXHAUSTED"),
        ("HOLDING", "TRACKING"),
    ]
    for before, after in zip(contents.bands, contents.bands[1:], strict=False):
        assert before.end == after.begin
    assert read_contents(written(world.recorder, "request")).fault is None


def test_requests_end_with_their_answers_and_a_chunk_begins_with_its_age(stuck):
    world, _ = stuck
    contents = read_contents(written(world.recorder))
    done = [each.done - each.sent for each in contents.exchanges if not each.error]
    assert done == pytest.approx([0.04, 0.04])
    assert [each.error for each in contents.exchanges if each.error] == ["no answer"] * (
        len(contents.exchanges) - 2
    )
    ages = contents.chunks[:, 0] - contents.chunks[:, 1]
    assert len(ages) == 2
    assert np.all((ages > 0.04) & (ages < 0.1))


def test_measured_velocities_are_derived_where_the_driver_gives_none(stuck):
    world, _ = stuck
    contents = read_contents(written(world.recorder))
    assert contents.measured["gripper"].values == pytest.approx(MEASURED[2], abs=1e-6)
    velocities = contents.measured_velocities["shoulder"]
    commanded = contents.commanded_velocities["shoulder"]
    assert velocities.values.max() == pytest.approx(commanded.values.max(), rel=0.05)


def test_velocities_of_the_driver_are_taken_where_it_gives_them(world):
    world.run()
    world.recorder.joints(
        world.moment, world.now, JOINTS, positions=MEASURED, velocities=[7.0, 8.0, 9.0]
    )
    contents = read_contents(written(world.recorder))
    assert contents.measured_velocities["elbow"].values.tolist() == [8.0]


def test_a_dry_run_shows_what_was_planned(settings, replace):
    player = replace(settings.player, is_commanded=False)
    world = RecordedWorld(replace(settings, dry_run=True, player=player))
    world.run()
    world.answer(world.pass_time(1_000, until=SendRequest), moving())
    world.pass_time(400)
    contents = read_contents(written(world.recorder))
    assert contents.is_dry
    assert contents.commanded["shoulder"].values.max() > MEASURED[0] + 0.1


def test_an_age_grows_until_the_next_message_and_the_end():
    ages = picture._ages(np.array([[1.0, 0.9], [1.5, 1.45]]), 2.0)
    assert ages.times.tolist() == [1.0, 1.5, 1.5, 2.0]
    assert ages.values == pytest.approx([0.1, 0.6, 0.05, 0.55])


def test_the_file_becomes_a_picture_with_frames_and_commands(stuck, tmp_path, capsys):
    world, _ = stuck
    red = encode_jpeg(np.full((90, 160, 3), (250, 0, 0), np.uint8))
    world.recorder.frame(world.moment, SmallFrame("scene", world.now - 20 * MS, red))
    world.recorder.stop_input(world.moment, "/estop", True)
    world.recorder.effect(world.moment, Warn("careful"))
    file = tmp_path / "box.mcap"
    file.write_bytes(written(world.recorder, "tracking"))
    assert draw.main([str(file)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'box.png'}\n"
    drawn = np.round(imread(tmp_path / "box.png")[..., :3] * 255).astype(int)
    assert drawn.shape[1] == 1760
    orange = [int(picture.COMMANDED[index : index + 2], 16) for index in (1, 3, 5)]
    assert (np.abs(drawn - orange).max(axis=-1) < 8).sum() > 500
    assert (np.abs(drawn - (250, 0, 0)).max(axis=-1) < 12).sum() > 2_000


def test_the_smallest_file_becomes_a_picture_too(settings, tmp_path):
    contents = read_contents(written(RecordedWorld(settings).recorder))
    picture.draw(contents, tmp_path / "box.png", seconds=10.0)
    assert imread(tmp_path / "box.png").shape[1] == 1760


def test_a_file_that_ends_too_soon_is_drawn_as_far_as_it_goes(stuck, tmp_path):
    content = written(stuck[0].recorder, "tracking")
    file = tmp_path / "box.mcap.part"
    file.write_bytes(content[: len(content) * 2 // 3])
    assert draw.main([str(file), "-o", str(tmp_path / "a.png"), "--seconds", "0"]) == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"hello", "does not begin as MCAP files do"), (None, "No such file or directory")],
)
def test_what_is_no_file_of_it_is_refused(tmp_path, capsys, content, message):
    file = tmp_path / "box.mcap"
    if content is not None:
        file.write_bytes(content)
    assert draw.main([str(file)]) == 2
    assert message in capsys.readouterr().err


def test_an_mcap_file_of_somebody_else_is_refused():
    from openpi_flash_robot.mcap.writer import McapWriter, Schema

    content = bytearray()
    writer = McapWriter(content.extend, library="a test")
    channel = writer.add_channel("/tf", Schema("a.Schema", "jsonschema", b"{}"), "json")
    writer.add_message(channel, 1, b"{}")
    writer.finish()
    with pytest.raises(NotABlackBoxError, match="holds no message on /recording"):
        read_contents(bytes(content))


def test_without_matplotlib_the_command_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from openpi_flash_robot.black_box.draw import main; sys.exit(main(['box.mcap']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: drawing needs matplotlib")
