"""What a Terraform provider accepts, read from the TypeScript that CDK Terrain generates of it.

The provider itself is a program of several hundred megabytes in a registry of its own. The package
`@cdktn/provider-aws` has a file for each of its resources, made of the provider's schema, and says
of each argument whether it is required, optional or computed.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLASS = re.compile(r"^export class (\w+) extends cdktn\.(\w+) \{$", re.MULTILINE)
_MEMBER = re.compile(
    r"^  // (\w+) - computed: (true|false), optional: (true|false), required: (true|false)$",
    re.MULTILINE,
)
_NESTED = re.compile(r'= new (\w+?)(OutputReference|List|Map)\(this, "\w+"(?:, (true|false))?\)')
_GETTER = re.compile(r"(Fn\.tolist\()?this\.get(\w+)Attribute\(")
_FIELD = re.compile(r"private _\w+\?: (string|number|boolean)(\[\])?")

_SIMPLE: dict[str, Any] = {"String": "string", "Number": "number", "Boolean": "bool"}
_OF_FIELDS = {"string": "string", "number": "number", "boolean": "bool"}


class ProviderTypesError(Exception):
    """The package is not laid out as expected, or lacks a resource; the message names it."""


@dataclass(frozen=True)
class Attribute:
    """An argument, or a value that the provider computes.

    Attributes:
        name: as Terraform spells it.
        type: Terraform's, as in its JSON: "string", ["list", "string"], "dynamic".
        is_required: the configuration must set it.
        is_optional: the configuration may set it.
        is_computed: the provider sets it where the configuration does not.
    """

    name: str
    type: Any
    is_required: bool
    is_optional: bool
    is_computed: bool


@dataclass(frozen=True)
class NestedBlock:
    """A block inside of another.

    Attributes:
        name: as Terraform spells it.
        block: what it may hold.
        is_set: its order means nothing.
        is_required: there must be one.
        is_single: there may be one only.
    """

    name: str
    block: Block
    is_set: bool
    is_required: bool
    is_single: bool


@dataclass(frozen=True)
class Block:
    """What a resource, a data source or a nested block may hold."""

    attributes: tuple[Attribute, ...] = ()
    blocks: tuple[NestedBlock, ...] = ()


@dataclass(frozen=True)
class Provider:
    """A part of a provider: its configuration, and the resources that somebody asked for."""

    configuration: Block
    resources: dict[str, Block]
    data_sources: dict[str, Block]


def read_provider(package: Path, resources: set[str], data_sources: set[str]) -> Provider:
    """Read the schema of some resources.

    Args:
        package: the unpacked package, with a folder `lib`.
        resources: names such as `aws_instance`.
        data_sources: the same, of data sources.

    Raises:
        ProviderTypesError: the package lacks one of them.
    """
    return Provider(
        configuration=_block_of(package, "provider"),
        resources={name: _block_of(package, _folder(name)) for name in sorted(resources)},
        data_sources={
            name: _block_of(package, f"data-aws-{_folder(name)}") for name in sorted(data_sources)
        },
    )


def names_in(folder: Path) -> tuple[set[str], set[str]]:
    """Names of the resources and of the data sources of AWS in the Terraform files of a folder."""
    text = "\n".join(path.read_text() for path in sorted(folder.glob("*.tf")))
    resources = set(re.findall(r'^resource "(aws_\w+)"', text, re.MULTILINE))
    return resources, set(re.findall(r'^data "(aws_\w+)"', text, re.MULTILINE))


def parse_block(source: str) -> Block:
    """Read the schema of one resource, data source or provider from its TypeScript.

    Raises:
        ProviderTypesError: no class in it is one.
    """
    bodies, top = {}, None
    for start in _CLASS.finditer(source):
        name, base = start.groups()
        following = _CLASS.search(source, start.end())
        bodies[name] = source[start.end() : following.start() if following else len(source)]
        if base in ("TerraformResource", "TerraformDataSource", "TerraformProvider"):
            top = name
    if top is None:
        raise ProviderTypesError("no class of a resource in it")
    return _parse_class(bodies[top], bodies)


def _folder(name: str) -> str:
    return name.removeprefix("aws_").replace("_", "-")


def _block_of(package: Path, folder: str) -> Block:
    file = package / "lib" / folder / "index.js"
    if not file.is_file():
        raise ProviderTypesError(f"the provider has no {folder}: there is no {file}")
    # the comments that tell required from computed are in the source that the file was made of
    _, mark, encoded = file.read_text().rpartition("sourceMappingURL=data:application/json;base64,")
    if not mark:
        raise ProviderTypesError(f"{file} has no source map")
    (source,) = json.loads(base64.b64decode(encoded))["sourcesContent"]
    try:
        return parse_block(source)
    except ProviderTypesError as error:
        raise ProviderTypesError(f"{file}: {error}") from None


def _parse_class(body: str, bodies: dict[str, str]) -> Block:
    attributes, blocks = [], []
    for member in _MEMBER.finditer(body):
        name = member[1]
        is_computed, is_optional, is_required = (word == "true" for word in member.groups()[1:])
        following = _MEMBER.search(body, member.end())
        text = body[member.end() : following.start() if following else len(body)]
        nested = _NESTED.search(text)
        if nested is not None and (is_optional or is_required):
            inner = _parse_class(bodies[f"{nested[1]}OutputReference"], bodies)
            is_single = nested[2] == "OutputReference"
            blocks.append(NestedBlock(name, inner, nested[3] == "true", is_required, is_single))
        else:
            kind = "dynamic" if nested is not None else _type_of(text)
            attributes.append(Attribute(name, kind, is_required, is_optional, is_computed))
    return Block(tuple(attributes), tuple(blocks))


def _type_of(text: str) -> Any:
    """Terraform's type of an attribute, by the function that reads it."""
    getter = _GETTER.search(text)
    if getter is None:
        field = _FIELD.search(text)
        if field is None:
            return "dynamic"
        simple = _OF_FIELDS[field[1]]
        return ["list", simple] if field[2] else simple
    is_set, kind = getter[1] is not None, getter[2]
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    for ending, collection in (("List", "set" if is_set else "list"), ("Map", "map")):
        if kind.endswith(ending):
            return [collection, _SIMPLE.get(kind.removesuffix(ending), "string")]
    return "dynamic"
