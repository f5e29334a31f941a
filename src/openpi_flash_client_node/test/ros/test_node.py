"""node.py on a real ROS graph with a real QUIC server: the main job and what people ask for."""

import time

import numpy as np
import pytest
from lifecycle_msgs.msg import State as LifecycleState
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from flash_transport import decode_image
from openpi_flash_client_node.ros.node import ClientNode
from openpi_flash_msgs.msg import ActionChunk, InferenceStats, PolicyStatus, Subtask
from openpi_flash_msgs.srv import SetPrompt
from openpi_flash_robot.bridge.status import State


def seconds(stamp):
    return stamp.sec + stamp.nanosec / 1e9


def latched_topic(ros, robot, kind, topic):
    """What a subscriber that comes now still gets."""
    from rclpy.qos import DurabilityPolicy, QoSProfile

    heard = []
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = robot.node.create_subscription(kind, topic, heard.append, profile)
    ros.until(lambda: heard, f"the latched message on {topic}")
    robot.node.destroy_subscription(subscription)
    return heard[0]


def test_images_and_joints_in_chunks_and_trajectories_out(ros, robot, server, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    chunk = ros.until(lambda: robot.chunks, "an action chunk")[0]

    observation = server.requests[0]
    assert "deadline_ms" not in observation  # this server does not read it
    assert observation["prompt"] == "stack the cubes"
    assert observation["observation/scene_image"].shape == (224, 224, 3)
    assert observation["observation/scene_image"][112, 112].tolist() == [5, 5, 5]
    np.testing.assert_allclose(observation["observation/state"], [0.1, 0.2, 0.5], rtol=1e-6)

    assert isinstance(chunk, ActionChunk)
    assert (chunk.sequence, chunk.horizon, chunk.first_step) == (1, 50, 0)
    assert list(chunk.names) == ["shoulder", "elbow", "gripper"]
    assert list(chunk.kinds) == ["position"] * 3
    assert list(chunk.units) == ["rad"] * 3
    assert list(chunk.references) == ["absolute"] * 3
    assert seconds(chunk.step_dt) == pytest.approx(0.04)
    np.testing.assert_allclose(
        np.reshape(chunk.values, (50, 3)), np.tile([0.1, 0.2, 0.5], (50, 1)), rtol=1e-6
    )
    assert chunk.prompt == "stack the cubes"
    assert 0 < seconds(chunk.header.stamp) - seconds(chunk.observation_stamp) < 0.5

    for name, joints in (("arm", ["shoulder", "elbow"]), ("hand", ["gripper"])):
        heard = robot.trajectories[name]
        trajectory = ros.until(lambda heard=heard: heard, f"a trajectory of {name}")[0]
        assert isinstance(trajectory, JointTrajectory)
        assert list(trajectory.joint_names) == joints
        assert seconds(trajectory.header.stamp) == pytest.approx(time.time(), abs=10)
        due = [seconds(point.time_from_start) for point in trajectory.points]
        assert due[0] >= 0
        assert due[-1] >= 0.3
        assert np.all(np.diff(due) > 0)
        assert not any(trajectory.points[-1].velocities)

    stats = ros.until(lambda: robot.stats, "stats")[-1]
    assert stats.sequence >= 1
    assert stats.drop_reason == InferenceStats.DROP_NONE
    assert seconds(stats.header.stamp) > seconds(stats.observation_stamp) > 0
    assert stats.server == pytest.approx(5e-5)
    assert stats.total >= stats.preprocess + stats.serialize + stats.server
    assert 0 < stats.serialize < 1
    images, chunk_bytes = 2 * 224 * 224 * 3, 50 * 3 * 4
    assert images < stats.bytes_up < images + 2_000
    assert chunk_bytes < stats.bytes_down < 2 * chunk_bytes + 2_000
    assert 0 <= stats.observation_age < 0.2


def test_a_server_that_reads_deadlines_is_told(robot, server, make_node):
    server.stop()
    server.start(supports=["deadline_ms"])
    make_node(request_timeout=0.8)
    robot.until_state(PolicyStatus.RUNNING)
    assert server.requests[0]["deadline_ms"] == 800.0


def test_a_compressed_camera_is_seen_and_jpeg_goes_to_a_server_that_reads_it(
    robot, server, make_node
):
    server.stop()
    server.start(supports=["jpeg"])
    robot.compress("scene")
    make_node(
        **{
            "camera.scene.topic": "/scene/image_raw/compressed",
            "image_encoding": "jpeg",
            "jpeg_quality": 90,
        }
    )
    robot.until_state(PolicyStatus.RUNNING)
    for name in ("scene", "wrist"):
        sent = server.requests[0][f"observation/{name}_image"]
        assert sent["__image__"] == "jpeg"
        image = decode_image(sent["data"])
        assert image.shape == (224, 224, 3)
        assert np.abs(image[112, 112].astype(int) - 5).max() <= 1


def test_images_are_raw_as_soon_as_the_link_is_known_to_carry_them(ros, robot, server, make_node):
    server.stop()
    server.start(supports=["jpeg"])
    make_node(image_budget=5.0)
    robot.until_state(PolicyStatus.RUNNING)
    key = "observation/scene_image"
    ros.until(lambda: isinstance(server.requests[-1][key], np.ndarray), "raw images")
    ros.until(lambda: robot.stats and robot.stats[-1].jpeg_quality == 0, "statistics of it")


def test_later_chunks_belong_to_the_moment_of_their_observation(ros, robot, make_node):
    make_node()
    ros.until(lambda: len(robot.chunks) >= 4, "four chunks")
    assert [chunk.sequence for chunk in robot.chunks[:4]] == [1, 2, 3, 4]
    for chunk in robot.chunks[1:4]:
        assert seconds(chunk.header.stamp) == pytest.approx(seconds(chunk.observation_stamp))
        assert chunk.first_step >= 1


def test_a_dry_run_shows_chunks_and_plans_but_commands_nothing(ros, robot, make_node):
    plans = []
    robot.node.create_subscription(
        JointTrajectory, "/openpi/preview/joint_trajectory", plans.append, 10
    )
    make_node(dry_run=True)
    ros.until(lambda: len(robot.chunks) >= 3, "chunks")
    assert robot.until_state(PolicyStatus.RUNNING).dry_run is True
    plan = ros.until(lambda: plans, "a plan")[0]
    assert list(plan.joint_names) == ["shoulder", "elbow", "gripper"]
    np.testing.assert_allclose(plan.points[-1].positions, [0.1, 0.2, 0.5], rtol=1e-6)
    assert robot.node.count_publishers("/arm/joint_trajectory") == 0
    assert robot.trajectories == {"arm": [], "hand": []}


def test_pause_holds_where_it_is_commanded_and_false_goes_on(ros, robot, server, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    robot.measured = [0.12, 0.22, 0.52]  # it sags, or is pushed
    server.answer = lambda _: {"actions": np.tile([0.1, 0.2, 0.5], (50, 1))}
    assert robot.call(SetBool, "pause", data=True).success
    robot.until_state(PolicyStatus.PAUSED, "paused by ~/pause")
    np.testing.assert_allclose(robot.until_commanded_to_stand(), [0.1, 0.2], atol=1e-6)
    asked = len(server.requests)
    ros.turn(0.6)
    assert len(server.requests) <= asked + 1
    assert robot.call(SetBool, "pause", data=False).success
    robot.until_state(PolicyStatus.RUNNING)


def test_hold_stays_until_reset_which_reaches_the_policy_too(ros, robot, server, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    assert robot.call(Trigger, "hold").success
    robot.until_state(PolicyStatus.HOLDING, "held by ~/hold")
    asked = len(server.requests)
    ros.turn(0.6)
    assert len(server.requests) <= asked + 1
    assert robot.call(Trigger, "reset").success
    robot.until_state(PolicyStatus.RUNNING)
    ros.until(lambda: server.resets == 1, "the reset to reach the policy")


def test_services_say_what_the_robot_does_now(robot, make_node):
    node = make_node()
    for _ in range(5):  # after a stall of the machine it truly says that it holds
        robot.until_state(PolicyStatus.RUNNING)
        answer = robot.call(SetPrompt, "set_prompt", prompt="open the drawer", reset=False)
        if "nothing could be commanded" not in answer.message:
            break
    assert answer.message == "the instruction is now 'open the drawer'; now RUNNING"
    answer = robot.call(Trigger, "hold")
    assert answer.message.startswith("held until ~/reset is called; now HOLDING: held by ~/hold")
    robot.call(SetBool, "pause", data=True)
    answer = robot.call(SetBool, "pause", data=False)
    assert answer.message.startswith("not paused any more; now HOLDING: held by ~/hold")
    node.trigger_deactivate()
    answer = robot.call(Trigger, "reset")
    assert answer.message == "the running chunk is forgotten; now PAUSED: not active"


def test_a_new_prompt_is_in_the_next_request_and_in_the_status(ros, robot, server, make_node):
    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    answer = robot.call(SetPrompt, "set_prompt", prompt="open the drawer", reset=False)
    assert answer.success
    ros.until(lambda: server.requests[-1]["prompt"] == "open the drawer", "the new prompt")
    ros.until(lambda: robot.status.prompt == "open the drawer", "the prompt in the status")
    ros.until(lambda: robot.chunks[-1].prompt == "open the drawer", "a chunk for it")


def test_subtask_and_status_are_latched_and_come_on_change(ros, robot, server, make_node):
    words = {"text": "reach for the cube", "ms": 1.0}
    server.answer = lambda observation: server.stay(observation) | {"subtask": dict(words)}
    make_node()
    ros.until(lambda: len(robot.chunks) >= 3, "chunks")
    subtask = latched_topic(ros, robot, Subtask, "/openpi/subtask")
    assert (subtask.text, subtask.prompt) == ("reach for the cube", "stack the cubes")
    assert subtask.sequence == 1
    assert seconds(subtask.header.stamp) > 0
    assert latched_topic(ros, robot, String, "/openpi/subtask_text").data == "reach for the cube"
    ros.until(  # on a busy machine it may hold for a moment
        lambda: (
            latched_topic(ros, robot, PolicyStatus, "/openpi/status").state == PolicyStatus.RUNNING
        ),
        "RUNNING as the latched status",
    )
    words["text"] = "close the gripper"
    ros.until(
        lambda: latched_topic(ros, robot, Subtask, "/openpi/subtask").sequence == 2, "the next one"
    )


def test_the_mirror_of_the_subtask_can_be_left_out(ros, robot, make_node):
    make_node(publish_subtask_text=False)
    robot.until_state(PolicyStatus.RUNNING)
    assert robot.node.count_publishers("/openpi/subtask_text") == 0


def test_status_has_a_heartbeat_and_diagnostics_an_entry_of_each_part(ros, robot, make_node):
    from diagnostic_msgs.msg import DiagnosticArray

    heard = []
    robot.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    make_node()
    status = robot.until_state(PolicyStatus.RUNNING)
    assert status.transport == "quic"
    assert status.server.startswith("127.0.0.1:")
    robot.until_new(robot.statuses, "a heartbeat", timeout=5)
    robot.until_new(robot.statuses, "another heartbeat", timeout=5)
    entries = {entry.name: entry for entry in robot.until_new(heard, "diagnostics").status}
    parts = ("connection", "observation", "planner", "execution", "episodes")
    assert set(entries) == {f"/openpi/client_node: {part}" for part in parts}


# --- lifecycle ---


def test_before_activation_it_connects_but_asks_and_moves_nothing(ros, robot, server, make_node):
    node = make_node(bring_up=False)
    node.trigger_configure()
    robot.until_state(PolicyStatus.PAUSED, "not active")
    ros.turn(0.3)
    assert server.requests == []
    node.trigger_activate()
    robot.until_state(PolicyStatus.RUNNING)


def test_deactivation_holds_and_activation_goes_on(ros, robot, make_node):
    node = make_node()
    ros.until(lambda: robot.trajectories["arm"], "a trajectory")
    node.trigger_deactivate()
    robot.until_state(PolicyStatus.PAUSED, "not active")
    robot.until_commanded_to_stand()
    sent = len(robot.trajectories["arm"])
    ros.turn(0.5)
    assert len(robot.trajectories["arm"]) == sent
    node.trigger_activate()
    robot.until_state(PolicyStatus.RUNNING)


def entities(node):
    return (
        sorted(publisher.topic_name for publisher in node.publishers),
        sorted(subscription.topic_name for subscription in node.subscriptions),
        sorted(service.srv_name for service in node.services),
        len(list(node.timers)),
        len(list(node.guards)),
        len(list(node.waitables)),
    )


def test_what_configure_makes_cleanup_unmakes_as_often_as_one_likes(ros, robot, make_node):
    node = make_node(bring_up=False)
    before = entities(node)
    for _ in range(2):
        node.bring_up()
        robot.until_state(PolicyStatus.RUNNING)
        node.trigger_deactivate()
        node.trigger_cleanup()
        robot.statuses.clear()
        assert entities(node) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"joints": None},
        {"max_velocty": 1.0},
        {"camera.scene.topic": "/not a topic"},
        {"controller.hand.topic": "/not a topic"},
        {"prompt_topic": "/not a topic"},
    ],
    ids=str,
)
def test_a_configure_that_fails_leaves_nothing_behind(make_node, changes):
    node = make_node(bring_up=False, **changes)
    before = entities(node)
    assert not node.bring_up()
    assert entities(node) == before
    assert node._state_machine.current_state[0] == LifecycleState.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize("is_latched", [False, True])
def test_an_emergency_stop_and_an_enabling_switch_stop_the_robot(ros, robot, make_node, is_latched):
    from std_msgs.msg import Bool

    from conftest import latched

    quality = latched() if is_latched else 1
    estop = robot.node.create_publisher(Bool, "/estop", quality)
    enable = robot.node.create_publisher(Bool, "/enable", quality)
    pressed, enabled = Bool(data=False), Bool(data=True)

    def speak():
        estop.publish(pressed)
        enable.publish(enabled)

    if is_latched:
        speak()
    else:
        robot.node.create_timer(0.05, speak)
    make_node(
        emergency_stop_topics=["/estop"],
        enable_topic="/enable",
        stop_timeout=0.0 if is_latched else 0.5,
    )
    robot.until_state(PolicyStatus.RUNNING)
    pressed.data = True
    speak()
    robot.until_state(PolicyStatus.HOLDING, "emergency stop /estop is pressed")
    pressed.data = False
    speak()
    robot.until_state(PolicyStatus.HOLDING, "call ~/reset")
    assert robot.call(Trigger, "reset").success
    robot.until_state(PolicyStatus.RUNNING)
    enabled.data = False
    speak()
    robot.until_state(PolicyStatus.HOLDING, "the switch on /enable that enables is not pressed")
    enabled.data = True
    speak()
    robot.until_state(PolicyStatus.RUNNING)


def test_the_robots_description_bounds_the_limits_whenever_it_comes(ros, robot, server, make_node):
    from conftest import latched

    make_node(position_lower=None, position_upper=None)
    robot.until_state(PolicyStatus.FAULT, "parameter position_lower is not set for shoulder")
    joint = '<joint name="{}" type="revolute"><limit lower="-1" upper="1" velocity="9"/></joint>'
    joints = "".join(joint.format(name) for name in ("shoulder", "elbow", "gripper"))
    descriptions = robot.node.create_publisher(String, "/robot_description", latched())
    descriptions.publish(String(data="<no robot/>"))
    descriptions.publish(String(data=f"<robot>{joints}</robot>"))
    robot.until_state(PolicyStatus.RUNNING)


def test_a_description_of_another_robot_keeps_the_arm_still_and_is_named(robot, server, make_node):
    from conftest import latched

    make_node()
    robot.until_state(PolicyStatus.RUNNING)
    other = '<joint name="elbow" type="revolute"><limit lower="5" upper="6" velocity="9"/></joint>'
    descriptions = robot.node.create_publisher(String, "/robot_description", latched())
    descriptions.publish(String(data=f"<robot>{other}</robot>"))
    why = "joint elbow has no position left: position_lower 5 (/robot_description) is not below"
    robot.until_state(PolicyStatus.FAULT, why)
    descriptions.publish(String(data="<robot/>"))
    robot.until_state(PolicyStatus.RUNNING)


def test_a_limits_file_bounds_the_parameters_when_they_change_too(
    robot, server, make_node, tmp_path
):
    file = tmp_path / "joint_limits.yaml"
    file.write_text(
        "joint_limits:\n  elbow: {has_jerk_limits: true, max_jerk: 50.0, "
        "has_position_limits: true, min_position: -1.0, max_position: 1.0}\n"
    )
    node = make_node(joint_limits_file=str(file))
    robot.until_state(PolicyStatus.RUNNING)
    assert node._settings.player.position_upper[1] == 1.0
    assert node._settings.player.max_jerk[1] == 50.0
    (refused,) = node.set_parameters([Parameter("max_acceleration", value=[20.0])])
    assert refused.reason.startswith(f"max_jerk of elbow, by {file} (50) is too low for its max_a")
    (refused,) = node.set_parameters([Parameter("position_lower", value=[-2.0, 1.5, 0.0])])
    assert refused.reason.startswith(
        "joint elbow has no position left: position_lower 1.5 (position_lower) is not below "
        f"position_upper 1 ({file})"
    )
    (taken,) = node.set_parameters([Parameter("max_velocity", value=[0.5])])
    assert taken.successful
    assert node._settings.player.max_jerk[1] == 50.0


def test_a_limits_file_that_cannot_be_used_is_an_error_at_configure(make_node, tmp_path):
    file = tmp_path / "joint_limits.yaml"
    file.write_text("joint_limits: {elbow: {has_velocity_limits: true}}")
    node = make_node(bring_up=False, joint_limits_file=str(file))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE


def test_shutdown_holds(ros, robot, make_node):
    node = make_node()
    ros.until(lambda: robot.trajectories["arm"], "a trajectory")
    node.trigger_shutdown()
    np.testing.assert_allclose(robot.until_commanded_to_stand(), [0.1, 0.2], atol=1e-6)


def test_dynamic_parameters_change_while_it_runs_and_bad_ones_do_not(robot, server, make_node):
    node = make_node()
    robot.until_state(PolicyStatus.RUNNING)
    (refused,) = node.set_parameters([Parameter("max_velocity", value=[1.0, 2.0])])
    assert not refused.successful
    assert refused.reason == "parameter max_velocity has 2 values for 3 joints"
    (refused,) = node.set_parameters([Parameter("server", value="10.0.0.5")])
    assert not refused.successful
    (taken,) = node.set_parameters([Parameter("request_timeout", value=0.2)])
    assert taken.successful
    server.answering.clear()
    robot.until_state(PolicyStatus.HOLDING, "within 0.2 s")


# --- names ---


def test_the_node_shadows_no_name_of_rclpys_node(make_node):
    node = make_node(bring_up=False)
    plain = LifecycleNode.__new__(LifecycleNode)
    theirs = {name for base in type(plain).__mro__ for name in vars(base)}
    ours = {name for name in vars(ClientNode) if not name.startswith("__")}
    wanted = {"on_configure", "on_activate", "on_deactivate", "on_cleanup", "on_shutdown"}
    assert ours & theirs == wanted | {"on_error"}
    assert not {name for name in vars(node) if name in ours}


def test_states_have_the_numbers_of_the_message():
    assert {state.name: int(state) for state in State} == {
        name: getattr(PolicyStatus, name)
        for name in ("DISCONNECTED", "CONNECTING", "PAUSED", "RUNNING", "HOLDING", "FAULT")
    }
