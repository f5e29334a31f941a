"""Reads Dockerfiles: what an image is made of, as plain data. Pure."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        word: `RUN`, `COPY`, ...
        flags: `--name=value` in front of its text, as {"name": "value"}.
        text: what follows, with continued lines joined.
        line: where it begins, from 1.
    """

    word: str
    flags: Mapping[str, str]
    text: str
    line: int

    @property
    def words(self) -> list[str]:
        """Its text as words: JSON in brackets, else as a shell splits it."""
        return self.array if self.text.startswith("[") else shlex.split(self.text)

    @property
    def array(self) -> list[str]:
        """The words of its JSON array."""
        words: list[str] = json.loads(self.text)
        return words


@dataclass(frozen=True)
class Stage:
    """One FROM and what follows it."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, word: str) -> list[Instruction]:
        """Its instructions of one kind, in order."""
        return [instruction for instruction in self.instructions if instruction.word == word]

    def last(self, word: str) -> Instruction:
        """The one that counts of those that override each other."""
        return self.all(word)[-1]


def read_instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile; comments and empty lines are left out."""
    found: list[Instruction] = []
    pending, began = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not pending:
            began = number
        if line.endswith("\\"):
            pending += line[:-1].rstrip() + " "
            continue
        found.append(_instruction(pending + line, began))
        pending = ""
    if pending:
        raise ValueError(f"line {began}: ends in a continuation")
    return found


def read_stages(text: str, arguments: Mapping[str, str] | None = None) -> list[Stage]:
    """The stages of a Dockerfile, with the ARGs before the first FROM put into their bases.

    Args:
        text: the file.
        arguments: as given by `--build-arg`.
    """
    values: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in read_instructions(text):
        if instruction.word == "FROM":
            words = expand(instruction.text, values).split()
            name = words[2] if len(words) == 3 else str(len(stages))
            stages.append(Stage(name, words[0], ()))
        elif stages:
            last = stages[-1]
            stages[-1] = replace(last, instructions=(*last.instructions, instruction))
        else:
            name, _, default = instruction.text.partition("=")
            values[name] = (arguments or {}).get(name, shlex.split(default)[0] if default else "")
    return stages


def with_bases(stages: Iterable[Stage], name: str) -> Stage:
    """A stage with the instructions of those below it in front; its base is an image."""
    known = {stage.name: stage for stage in stages}
    stage = known[name]
    while stage.base in known:
        below = known[stage.base]
        stage = Stage(stage.name, below.base, (*below.instructions, *stage.instructions))
    return stage


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replaces $NAME and ${NAME} by their values, empty where there is none."""
    return re.sub(
        r"\$(?:\{(\w+)\}|(\w+))", lambda match: values.get(match[1] or match[2], ""), text
    )


def is_sent(path: str, rules: str) -> bool:
    """Whether a file of the checkout is part of the build's context.

    Args:
        path: relative to the checkout.
        rules: the text of the .dockerignore file; the last rule that fits decides.
    """
    parents = [path]
    while "/" in parents[-1]:
        parents.append(parents[-1].rpartition("/")[0])
    sent = True
    for line in rules.splitlines():
        rule = line.strip()
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        if any(_fits(parent, pattern) for parent in parents):
            sent = rule.startswith("!")
    return sent


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern[3:])
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _instruction(text: str, line: int) -> Instruction:
    word, _, rest = text.partition(" ")
    rest = rest.strip()
    flags: dict[str, Any] = {}
    while match := re.match(r"--([\w-]+)=(\S+)\s+", rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    return Instruction(word.upper(), flags, rest, line)
