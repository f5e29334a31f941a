"""A simulated robot and the node: `ros2 launch openpi_flash demo.launch.py server:=10.0.0.5`.

The server runs already, with the config pi05_sim_arm, or with any that answers for the arm (the
demo's README). `ros2 launch openpi_flash demo.launch.py --show-args` lists the arguments.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from openpi_flash_client_node.launch_plan import (
    ARGUMENTS,
    DEMO_ARGUMENTS,
    SIM_HINT,
    check_end,
    simulated_robot,
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default,
                    description=argument.description,
                    choices=list(argument.choices) or None,
                )
                for argument in DEMO_ARGUMENTS
            ),
            OpaqueFunction(function=start),
        ]
    )


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    texts = {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in DEMO_ARGUMENTS
    }
    share = Path(get_package_share_directory("openpi_flash"))
    robot = simulated_robot(texts, share, os.environ.get("PYTHONPATH", ""))
    for_node = {argument.name for argument in ARGUMENTS}
    return [
        ExecuteProcess(
            cmd=list(robot.command),
            additional_env={"PYTHONPATH": robot.python_path},
            output="screen",
            on_exit=on_robot_exit,
        ),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(share / "launch" / "robot.launch.py")),
            launch_arguments={
                "robot": "sim_arm",
                **{name: text for name, text in texts.items() if name in for_node},
            }.items(),
        ),
    ]


def on_robot_exit(event: ProcessExited, context: LaunchContext) -> None:
    if not context.is_shutdown:
        check_end("the simulated robot", event.returncode, SIM_HINT)
