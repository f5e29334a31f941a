"""A policy behind a server, asked as a robot asks it: the same request, resizing and parsing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flash_transport import FlashTransportError, jpeg_message, resize_with_pad
from openpi_flash_robot.link.answer import AnswerError, parse_answer, rtc_of
from openpi_flash_robot.link.api_key import find_api_key
from openpi_flash_robot.link.transport import failure_message, open_policy, resolve_server
from openpi_flash_robot.senses.frames import Frame, FrameSet
from openpi_flash_robot.senses.joints import JointReading
from openpi_flash_robot.senses.observation import Image, ImageWork, Observation, build_request
from openpi_flash_robot.senses.states import StateReading
from openpi_flash_robot.settings.node_settings import NodeSettings
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.server_contract import (
    Agreement,
    ContractError,
    agree,
    parse_contract,
)
from openpi_flash_training.evaluation.arm_settings import arm_settings
from openpi_flash_training.evaluation.policy import PolicyFailedError, Query, Reply

IMAGE_WORK: ImageWork[Image] = ImageWork(
    decode=lambda image, _: image, resize=resize_with_pad, encode=jpeg_message
)


@dataclass(frozen=True)
class ServerChoice:
    """Which server.

    Attributes:
        host: name or address, with or without a port.
        transport: auto, quic or websocket.
        link: further parameters of the link, as in docs/robot_parameters.md.
        timeout_s: for each answer, in truth: the policy's own time is not simulated time.
        key: an API key that is made for this evaluation; empty: `link` or the environment has one.
    """

    host: str
    transport: str = "auto"
    link: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 60.0
    key: str = field(default="", repr=False)


class ServedPolicy:
    """A connection to a server; for one thread.

    Args:
        choice: which server.
        environ: the environment, for the API key.
        settings: of the robot, given the parameters of the link.

    Raises:
        PolicyFailedError: there is no connection, or the server's chunks are not for this robot.
    """

    needs_images = True

    def __init__(
        self,
        choice: ServerChoice,
        environ: Mapping[str, str],
        settings: Callable[..., NodeSettings] = arm_settings,
    ) -> None:
        try:
            self._settings = settings(
                **{**choice.link, "server": choice.host, "transport": choice.transport}
            )
            link = resolve_server(self._settings.link)
            key = choice.key or find_api_key(link, environ).text
            self._connection = open_policy(replace(link, api_key=key))
        except ParameterError as error:
            raise PolicyFailedError(str(error)) from error
        except (FlashTransportError, ImportError, ValueError) as error:
            raise PolicyFailedError(f"{choice.host}: {failure_message(error)}") from error
        self.server = link.server
        self._timeout_s = choice.timeout_s
        self.metadata = self._connection.get_server_metadata()
        try:
            contract = parse_contract(self.metadata)
            self.agreement: Agreement = agree(contract, self._settings)
        except ContractError as error:
            self.close()
            raise PolicyFailedError(f"{self.server}: {error}") from error

    def answer(self, query: Query) -> Reply:
        """The server's chunk and subtask.

        Raises:
            PolicyFailedError: it fails or refuses.
        """
        agreement, frames = self.agreement, {}
        for camera, image in query.images.items():
            frames[camera] = Frame(0, image)
        state = {
            state.key: query.joints[: state.size] for state in self._settings.observation.states
        }
        observation: Observation[Image] = Observation(
            FrameSet(frames, 0, 0),
            JointReading(query.joints, 0),
            StateReading(state, 0),
            query.prompt,
        )
        rtc = None if query.continuation is None else rtc_of(query.continuation, agreement)
        request = build_request(
            observation, self._settings.observation, agreement.images, IMAGE_WORK, rtc=rtc
        )
        if "seed" in agreement.supports:
            request["seed"] = query.seed
        try:
            result, _ = self._connection.infer_with_stats(request, timeout=self._timeout_s)
            answer = parse_answer(result, agreement)
        except (FlashTransportError, AnswerError) as error:
            raise PolicyFailedError(f"{self.server}: {failure_message(error)}") from error
        return Reply(answer.actions, None if answer.subtask is None else answer.subtask.text)

    def reset(self) -> None:
        """Have the policy forget the last episode."""
        try:
            self._connection.reset()
        except FlashTransportError as error:
            raise PolicyFailedError(f"{self.server}: {failure_message(error)}") from error

    def close(self) -> None:
        """End the connection."""
        self._connection.close()
