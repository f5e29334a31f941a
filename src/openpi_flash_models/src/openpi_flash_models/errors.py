"""What can go wrong, sorted by whose fault it is.

ObservationError      the caller sent something the policy cannot use
CheckpointError       the operator gave a directory that is not a usable checkpoint
InferenceConfigError  the operator named a config or robot that does not exist
DownloadError         the operator named a URL that could not be fetched
ModelOutputError      the model's output is not finite
ActionDecodeError     the model generated tokens that are no chunk of actions
"""

from __future__ import annotations


class ObservationError(ValueError):
    """An observation (or a per-request control) that the policy cannot use.

    Attributes:
        key: what is at fault, as the caller spells it: ``observation/state``, ``images/cam_high``.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self._problem = problem

    def __reduce__(self) -> tuple[type[ObservationError], tuple[str, str]]:
        """It goes from one process to another."""
        return type(self), (self.key, self._problem)


class CheckpointError(Exception):
    """A checkpoint directory that is missing, incomplete, broken or of another model."""


class InferenceConfigError(ValueError):
    """A config or robot name that does not exist."""


class ModelOutputError(RuntimeError):
    """The model's output is not finite, so nothing may be sent to a robot."""


class ActionDecodeError(ModelOutputError):
    """The tokens that the model generated are no chunk of actions, so there is none to send."""


class DownloadError(Exception):
    """What a URL names could not be fetched."""
