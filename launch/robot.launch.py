"""Starts the robot's side: `ros2 launch openpi_flash robot.launch.py server:=10.0.0.5`.

`ros2 launch openpi_flash robot.launch.py --show-args` lists the arguments.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from openpi_flash_client_node.launch_plan import ARGUMENTS, NODE_HINT, check_end, plan


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            # lines of the log in the order in which they were written
            SetEnvironmentVariable("RCUTILS_LOGGING_BUFFERED_STREAM", "1"),
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default,
                    description=argument.description,
                    choices=list(argument.choices) or None,
                )
                for argument in ARGUMENTS
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[Node]:
    texts = {
        argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS
    }
    found = plan(texts, Path(get_package_share_directory("openpi_flash")) / "config")
    return [
        Node(
            package="openpi_flash_client_node",
            executable="client_node",
            namespace=found.namespace,
            name=found.node_name,
            parameters=[found.params_file, dict(found.overrides)],
            arguments=["--ros-args", "--log-level", found.log_level],
            output="screen",
            respawn=found.respawn,
            respawn_delay=2.0,
            on_exit=None if found.respawn else on_node_exit,
        )
    ]


def on_node_exit(event: ProcessExited, context: LaunchContext) -> None:
    # an exception ends `ros2 launch` with 1; it would return 0 for a node that could not start
    if not context.is_shutdown:
        check_end("client_node", event.returncode, NODE_HINT)
