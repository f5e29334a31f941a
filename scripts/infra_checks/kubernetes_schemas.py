"""JSON schemas in the form that kubeconform reads without a network.

usage: python -m infra_checks.kubernetes_schemas FOLDER CORE FILE...
  FOLDER  where the schemas are written, as `scaledobject-keda-v1alpha1.json`
  CORE    schemas of one version of Kubernetes, a folder of the package kubernetes-validate
  FILE    YAML with CustomResourceDefinitions
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KINDS = (
    "configmap-v1",
    "deployment-apps-v1",
    "namespace-v1",
    "persistentvolumeclaim-v1",
    "poddisruptionbudget-policy-v1",
    "service-v1",
)
"""Kinds of Kubernetes itself that infra/kubernetes has."""

DEFINITIONS = "_definitions.json#"


def core_schema(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a kind with all that it refers to in it; its own address is nowhere."""
    whole = _local({key: value for key, value in schema.items() if key not in ("$id", "$schema")})
    return {**whole, "$defs": _local(definitions["$defs"])}


def custom_schemas(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema of each version of a CustomResourceDefinition, with the name of its file.

    A field that the definition does not know is an error, as with `kubectl apply --validate`.
    """
    spec = definition["spec"]
    kind, group = spec["names"]["kind"].lower(), spec["group"].partition(".")[0]
    for version in spec["versions"]:
        schema = _strict(version["schema"]["openAPIV3Schema"])
        # a definition says no more of it than "object"
        schema["properties"]["metadata"] = {"type": "object"}
        yield f"{kind}-{group}-{version['name']}.json", schema


def _local(schema: Any) -> Any:
    """The schema, with references into itself in place of those to another file."""
    if isinstance(schema, list):
        return [_local(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _local(value) for key, value in schema.items()}
    reference = found.get("$ref")
    if isinstance(reference, str):
        found["$ref"] = (
            "#" + reference.partition(DEFINITIONS)[2] if DEFINITIONS in reference else reference
        )
    return found


def _strict(schema: Any) -> Any:
    """The schema, refusing fields that it does not name where it names some."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    # `properties` may also be the name of a field
    names_fields = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if names_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def main(arguments: list[str]) -> int:
    """Write all schemas."""
    folder, core = Path(arguments[0]), Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    definitions = json.loads((core / "_definitions.json").read_text())
    for name in KINDS:
        schema = core_schema(json.loads((core / f"{name}.json").read_text()), definitions)
        (folder / f"{name}.json").write_text(json.dumps(schema))
    for file in arguments[2:]:
        for document in yaml.safe_load_all(Path(file).read_text()):
            if document and document.get("kind") == "CustomResourceDefinition":
                for name, schema in custom_schemas(document):
                    (folder / name).write_text(json.dumps(schema))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
