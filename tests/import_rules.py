"""Which module may import what.

One way: training -> models <- server -> transport <- robot <- node -> msgs. Training also plays
chunks as the robot does, over the same transport.

`test_import_boundaries.py` holds the source to these tables. A new package or pure module gets a
row here; a rule is loosened here or nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent

ROS_MODULES = frozenset(
    {
        "action_msgs",
        "ament_index_python",
        "builtin_interfaces",
        "control_msgs",
        "controller_manager_msgs",
        "cv_bridge",
        "diagnostic_msgs",
        "franka_msgs",
        "geometry_msgs",
        "lifecycle_msgs",
        "nav_msgs",
        "openpi_flash_msgs",
        "rcl_interfaces",
        "rclpy",
        "sensor_msgs",
        "std_msgs",
        "std_srvs",
        "tf2_msgs",
        "trajectory_msgs",
        "ur_dashboard_msgs",
    }
)
NETWORK_MODULES = frozenset({"asyncio", "http", "requests", "socket", "urllib", "websockets"})
CLOCK_MODULES = frozenset({"datetime", "sched", "threading", "time"})
OUR_PACKAGES = frozenset(
    {
        "flash_transport",
        "openpi_flash_client_node",
        "openpi_flash_models",
        "openpi_flash_robot",
        "openpi_flash_server",
        "openpi_flash_training",
    }
)


@dataclass(frozen=True)
class PackageRule:
    """What the modules of one package may import."""

    source: Path
    may_import: frozenset[str] = frozenset()
    """Other packages of ours."""
    forbidden: frozenset[str] = frozenset()
    """Modules that have no business here."""
    network_in: frozenset[str] = frozenset()
    """Folders whose modules may use the network all the same."""
    ros_in: frozenset[str] = frozenset()
    """Folders whose modules may use ROS and our messages all the same."""
    third_party: frozenset[str] | None = None
    """The only third-party modules allowed; None leaves the choice to the package's pyproject."""


PACKAGES = {
    "flash_transport": PackageRule(
        ROOT / "src/flash_transport/python/flash_transport",
        forbidden=ROS_MODULES | {"jax", "torch"},
        # typing_extensions for type checkers only, which know it without its being installed
        third_party=frozenset(
            {"aioquic", "cryptography", "numpy", "typing_extensions", "websockets"}
        ),
    ),
    "openpi_flash_models": PackageRule(
        ROOT / "src/openpi_flash_models/src/openpi_flash_models",
        forbidden=ROS_MODULES | NETWORK_MODULES | {"flax", "openpi", "transformers"},
        network_in=frozenset({"downloads"}),
    ),
    "openpi_flash_server": PackageRule(
        ROOT / "src/openpi_flash_server/src/openpi_flash_server",
        may_import=frozenset({"flash_transport", "openpi_flash_models"}),
        forbidden=ROS_MODULES,
    ),
    "openpi_flash_training": PackageRule(
        ROOT / "src/openpi_flash_training/src/openpi_flash_training",
        may_import=frozenset({"flash_transport", "openpi_flash_models", "openpi_flash_robot"}),
        forbidden=ROS_MODULES | {"flax", "openpi", "transformers"},
        ros_in=frozenset({"through_ros"}),
    ),
    "openpi_flash_robot": PackageRule(
        ROOT / "src/openpi_flash_robot/openpi_flash_robot",
        may_import=frozenset({"flash_transport"}),
        forbidden=ROS_MODULES,
        # matplotlib for `black_box.draw` alone, which says how to install it
        third_party=frozenset({"matplotlib", "numpy", "yaml"}),
    ),
    "openpi_flash_client_node": PackageRule(
        ROOT / "src/openpi_flash_client_node/openpi_flash_client_node",
        may_import=frozenset({"openpi_flash_robot"}),
        third_party=ROS_MODULES | {"numpy"},
    ),
}


@dataclass(frozen=True)
class PureModules:
    """Modules that know nothing of ROS, sockets or clocks: time is passed in."""

    package: str
    names: tuple[str, ...]
    forbidden: frozenset[str] = field(
        default=ROS_MODULES | NETWORK_MODULES | CLOCK_MODULES | OUR_PACKAGES
    )


PURE_MODULES = (
    PureModules(
        "flash_transport",
        (
            "address",
            "aio.lines",
            "api_key",
            "deadline",
            "errors",
            "outside_text",
            "pure.dtype",
            "pure.reader",
            "pure.shapes",
            "pure.unpack",
            "session_name",
            "stats",
            "waiting_line",
            "websocket.proxies",
            "websocket.target",
        ),
        # urllib.parse knows no network
        forbidden=(ROS_MODULES | NETWORK_MODULES | CLOCK_MODULES | OUR_PACKAGES) - {"urllib"},
    ),
    PureModules(
        "openpi_flash_server",
        (
            "config.policy_name",
            "config.prompt_template",
            "doctor.checks",
            "doctor.finding",
            "doctor.machine",
            "probe.answer_check",
            "probe.load_schedule",
            "probe.load_tally",
            "positronic.checkpoint_queue",
            "probe.spread",
            "recording.comparison",
            "recording.ring",
            "serving.contract_change",
            "serving.framework_memory",
            "handlers.subtask_board",
            "sizing",
            "routing.routes",
            "slot.answer",
            "slot.fair_share",
            "slot.forecast",
            "slot.health",
            "slot.life",
            "slot.scheduler",
            "replicas.pool",
            "runners.turn_order",
        ),
    ),
    PureModules(
        "openpi_flash_server",
        ("contract",),
        # the words of the contract are the models' package's
        forbidden=(ROS_MODULES | NETWORK_MODULES | CLOCK_MODULES | OUR_PACKAGES)
        - {"openpi_flash_models"},
    ),
    PureModules(
        "openpi_flash_training",
        (
            "demonstrations.expert",
            "demonstrations.noise",
            "evaluation.motion_log",
            "live.hand_rotation",
            "live.jog",
        ),
    ),
    PureModules(
        "openpi_flash_robot",
        (
            "black_box.mcap_reader",
            "black_box.messages",
            "black_box.recorder",
            "black_box.records",
            "black_box.ring",
            "black_box.schemas",
            "black_box.trigger",
            "bridge",
            "broker.playback",
            "cdr",
            "episodes.definitions",
            "episodes.entry",
            "episodes.episode_file",
            "episodes.facts",
            "episodes.recorder",
            "episodes.ros_messages",
            "episodes.stream",
            "hold",
            "link.answer",
            "link.events",
            "mcap",
            "nanoseconds",
            "play",
            "run.drive",
            "run.pacing",
            "run.robot",
            "run.window_player",
            "senses",
            "settings",
        ),
    ),
    PureModules(
        "openpi_flash_training",
        (
            "dataset.feature_stats",
            "episodes.resample",
            "episodes.stamps",
            "inspection.finding",
            "inspection.motion_checks",
            "inspection.prompt_checks",
        ),
    ),
)
"""A name is a module or a folder with all that is in it. Of its own package, a pure module
imports pure modules only."""

ROOMS = {
    "openpi_flash_robot": (
        ("hold", "mcap", "nanoseconds"),
        ("settings",),
        ("senses",),
        ("play",),
        ("cdr", "link"),
        ("bridge",),
        ("black_box", "episodes"),
        ("run",),
        ("broker", "lerobot_robot"),
        ("plain",),
    ),
    "openpi_flash_client_node": (
        ("launch_plan",),
        ("sender",),
        ("ros",),
        ("__main__",),
    ),
    "openpi_flash_models": (
        ("errors",),
        ("files",),
        ("model",),
        ("transforms", "downloads"),
        ("robots", "text"),
        ("config",),
        ("actions",),
        ("checkpoints",),
        ("policy",),
        ("jax_models", "torch_models", "demo"),
        ("load",),
    ),
    "openpi_flash_training": (
        ("__init__", "episodes", "parent_process"),
        ("spawned_map",),
        ("recordings", "dataset"),
        ("statistics", "inspection"),
        ("conversion",),
        ("train",),
        ("demonstrations",),
        ("evaluation",),
        ("live",),
        ("through_ros",),
        ("commands",),
    ),
    "openpi_flash_server": (
        ("__init__", "logs"),
        ("positronic",),
        ("config", "contract", "routing"),
        ("slot",),
        ("replicas",),
        ("handlers", "own_policy", "recording", "runners", "transports"),
        ("admin", "shadow"),
        ("serving", "probe", "doctor", "sizing"),
        ("commands",),
        ("cli",),
        ("__main__",),
    ),
}
"""The rooms of a package, floor by floor: a module imports from its own room and from the floors
below, never from above or from another room of its floor."""
