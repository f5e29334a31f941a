"""Keeps secrets out of the ROS graph.

While rclpy makes a node it declares every parameter that the user set and publishes each on
/parameter_events; from then on every node of the graph can read the value. So a secret is replaced
before it is declared. What the graph reads is `set` or `not set`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from openpi_flash_robot.settings.node_settings import SECRET_IS_NOT_SET, SECRET_IS_SET


def is_secret(name: str) -> bool:
    """Whether a parameter of this name holds a key; also a misspelt one, such as `apikey`."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    return "apikey" in letters and not letters.endswith("file")


class NodeWithSecrets(Node):
    """A node whose secret parameters are in `secrets` and nowhere else."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        # rclpy declares the user's parameters inside this call
        self.secrets: dict[str, Any] = {}
        super().__init__(*arguments, **named)
        self.add_on_set_parameters_callback(_refuse_secrets)

    def declare_parameters(
        self, namespace: str, parameters: Iterable[Any], ignore_override: bool = False
    ) -> list[Any]:
        """As rclpy's, with the value of each secret replaced."""
        hidden = [self._hidden(parameter) for parameter in parameters]
        return super().declare_parameters(namespace, hidden, ignore_override)

    def _hidden(self, parameter: Any) -> Any:
        name, value, *descriptor = parameter
        if not is_secret(name) or _is_harmless(value):
            return parameter
        self.secrets[name] = value
        return (name, SECRET_IS_SET, *descriptor)


def _is_harmless(value: Any) -> bool:
    return isinstance(value, str) and value in ("", SECRET_IS_SET, SECRET_IS_NOT_SET)


def _refuse_secrets(parameters: Iterable[Parameter]) -> SetParametersResult:
    """Let no new secret in while the node runs: it would be published."""
    for parameter in parameters:
        if is_secret(parameter.name) and not _is_harmless(parameter.value):
            reason = f"{parameter.name} cannot be set while the node runs; write it to api_key_file"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)
