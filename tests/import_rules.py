"""Which module may import what. One way: training -> models <- server -> transport <- node -> msgs.

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
        "diagnostic_msgs",
        "lifecycle_msgs",
        "openpi_flash_msgs",
        "rcl_interfaces",
        "rclpy",
        "sensor_msgs",
        "std_msgs",
        "std_srvs",
        "trajectory_msgs",
    }
)
NETWORK_MODULES = frozenset({"asyncio", "http", "requests", "socket", "urllib", "websockets"})
CLOCK_MODULES = frozenset({"datetime", "sched", "threading", "time"})
OUR_PACKAGES = frozenset(
    {
        "flash_transport",
        "openpi_flash_client_node",
        "openpi_flash_models",
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
    "openpi_flash_client_node": PackageRule(
        ROOT / "src/openpi_flash_client_node/openpi_flash_client_node",
        may_import=frozenset({"flash_transport"}),
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
    PureModules("openpi_flash_server", ("prompt_template", "scheduler")),
    PureModules(
        "openpi_flash_client_node",
        (
            "answer",
            "bridge",
            "chunk_player",
            "commander",
            "diagnostics",
            "effects",
            "frames",
            "hold",
            "joints",
            "launch_plan",
            "limits",
            "link_events",
            "nanoseconds",
            "observation",
            "parameter_kinds",
            "parameters",
            "plan",
            "planner_feed",
            "request_schedule",
            "server_contract",
            "settings",
            "status",
            "tally",
            "trajectory",
        ),
    ),
)
