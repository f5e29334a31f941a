"""`python -m sim_robot`: run the simulated robot until it is told to stop."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys

from sim_robot.gl_backend import RenderingUnavailableError, choose_gl_backend


def main() -> int:
    """Run until SIGINT or SIGTERM; return 0 then, 1 when the cameras cannot be drawn."""
    arguments, ros_arguments = _parse(sys.argv[1:])
    stopping = _Stopping()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stopping.on_signal)
    # Two cameras fill one core at most: more of Mesa's threads would only take the others' time.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        if arguments.camera_hz > 0:
            os.environ["MUJOCO_GL"] = choose_gl_backend()
        _run(arguments, ros_arguments, stopping)
    except RenderingUnavailableError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


class _Stopping:
    """Whether a signal has come. A lock, as in `threading.Event`, would stop a second signal."""

    is_requested = False

    def on_signal(self, *_: object) -> None:
        self.is_requested = True


def _run(arguments: argparse.Namespace, ros_arguments: list[str], stopping: _Stopping) -> None:
    # Imported here: MuJoCo reads MUJOCO_GL on import, and both take a second in which a signal
    # must already be heard.
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from sim_robot.node import SimRobotNode

    rclpy.init(args=ros_arguments, signal_handler_options=SignalHandlerOptions.NO)
    node = SimRobotNode(seed=arguments.seed, camera_hz=arguments.camera_hz, speed=arguments.speed)
    try:
        node.start()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.add_node(node.controller)
        while not stopping.is_requested:
            executor.spin_once()  # the physics timer wakes it
    finally:
        node.close()
        rclpy.shutdown()


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split our arguments from those of ROS, which start at --ros-args."""
    ours = list(itertools.takewhile(lambda argument: argument != "--ros-args", arguments))
    return _parser().parse_args(ours), arguments[len(ours) :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sim_robot",
        description="A simulated arm that publishes cameras and joint states over ROS 2 and "
        "follows /arm_controller/joint_trajectory. ROS arguments go after --ros-args.",
    )
    parser.add_argument(
        "--camera-hz",
        type=_rate,
        default=10.0,
        metavar="HZ",
        help="pictures per second of each camera; 0 turns them off (default: %(default)g)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="moves the cubes (default: %(default)s)"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="FACTOR",
        help="simulated seconds per second; other than 1 publishes /clock, and the other nodes "
        "need use_sim_time (default: %(default)g)",
    )
    return parser


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 100")
    return value


def _speed(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 10")
    return value


if __name__ == "__main__":
    sys.exit(main())
