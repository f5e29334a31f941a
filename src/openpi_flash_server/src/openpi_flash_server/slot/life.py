"""The life of a slot: the stage that health, status and log read. Pure."""

from __future__ import annotations

import enum


class Stage(enum.StrEnum):
    """Where a slot stands."""

    STARTING = "starting"
    """Its ports are open, and nothing is loaded."""
    DOWNLOADING = "downloading"
    """The checkpoint comes to this machine."""
    LOADING = "loading"
    """The weights are read."""
    COMPILING = "compiling"
    """A model of ours compiles its programs, and runs each once."""
    WARMING = "warming"
    """A policy of somebody else's runs once."""
    READY = "ready"
    """Requests are answered."""
    UNLOADED = "unloaded"
    """The operator took the model out of memory."""
    DRAINING = "draining"
    """Accepted requests are answered, and no others."""
    FAILED = "failed"
    """Only a restart helps."""


class Life:
    """The stage of one slot, and what a person is told of it."""

    def __init__(self) -> None:
        self.stage = Stage.STARTING
        self._refusal = "starting"
        self._hang = ""
        self._trouble = ""
        self._lack = ""

    @property
    def refusal(self) -> str | None:
        """Why requests are refused; None if they are taken."""
        return self._refusal or self._hang or None

    @property
    def hangs(self) -> bool:
        """Whether the model holds a request that was given up."""
        return bool(self._hang)

    @property
    def trouble(self) -> str | None:
        """What only a restart is sure to cure; None if nothing."""
        return self._trouble or self._lack or self._hang or None

    def prepares(self, stage: Stage, reason: str) -> None:
        """The slot gets ready; one that is open, stops or has failed stays what it is."""
        if self.stage not in (Stage.READY, Stage.DRAINING, Stage.FAILED):
            self.stage, self._refusal = stage, reason

    def opens(self) -> None:
        """Requests are taken from now on, unless the slot stops."""
        if self.stage is not Stage.DRAINING:
            self._refusal = self._hang = self._lack = ""
            self.stage = Stage.FAILED if self._trouble else Stage.READY

    def unloads(self, reason: str) -> None:
        """Requests are refused until the slot opens again."""
        if self.stage is not Stage.DRAINING:
            self.stage, self._refusal, self._hang = Stage.UNLOADED, reason, ""

    def hangs_because(self, reason: str) -> None:
        """Requests are refused until the model comes back or another one opens."""
        self._hang = reason

    def comes_back(self) -> None:
        """The model has ended what was given up."""
        self._hang = ""

    def lacks_model(self, reason: str) -> None:
        """There is no model to open with; another one may still be found."""
        if self.stage is not Stage.DRAINING:
            self.stage, self._refusal, self._lack = Stage.FAILED, reason, reason

    def drains(self) -> None:
        """Requests are refused for good."""
        self.stage, self._refusal = Stage.DRAINING, "shutting down"

    def fails(self, reason: str) -> None:
        """Only a restart helps. A slot that is open still takes requests."""
        if self.stage is Stage.DRAINING:
            return
        self.stage, self._trouble = Stage.FAILED, reason
        if self._refusal:
            self._refusal = reason
