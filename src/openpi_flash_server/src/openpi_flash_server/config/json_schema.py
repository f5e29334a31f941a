"""The configuration as a JSON Schema, for editors: it is made of the fields that parse the file."""

from __future__ import annotations

from typing import Any

from openpi_flash_server.config.policy_name import LEROBOT, NULL_MODEL
from openpi_flash_server.config.server_config import ServerConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_KEY = "$schema"
"""The key by which a configuration names its schema; editors read it, the server ignores it."""


def json_schema() -> dict[str, Any]:
    """The schema: each field with its description, type, limits and default.

    It accepts every file that the server accepts. What depends on two fields, or on this machine,
    only `openpi-flash config check` finds.
    """
    schema = _without_titles(ServerConfig.model_json_schema())
    properties = schema.pop("properties")
    action = schema["$defs"]["ActionSettings"]["properties"]
    action["model_config_name"] = _completed(action["model_config_name"])
    return {
        SCHEMA_KEY: DIALECT,
        "title": "Configuration of the openpi-flash server",
        **schema,
        "properties": {
            SCHEMA_KEY: {"description": "this schema, for editors", "type": "string"},
            **properties,
        },
        "anyOf": [
            {"required": [slot], "properties": {slot: {"type": "object"}}}
            for slot in ("action", "planner")
        ],
    }


def _completed(name: dict[str, Any]) -> dict[str, Any]:
    """The field of a config's name, with the names that there are for an editor to offer.

    Other names stay allowed: a robot file may define more, and a policy may be your own.
    """
    from openpi_flash_models.config.named_configs import config_names

    shape = {key: value for key, value in name.items() if key != "description"}
    known = [NULL_MODEL, LEROBOT, *config_names()]
    return {"description": name["description"], "anyOf": [{"enum": known}, shape]}


def _without_titles(value: Any) -> Any:
    """Leaves out pydantic's titles: the fields' names in other letters."""
    if isinstance(value, list):
        return [_without_titles(entry) for entry in value]
    if isinstance(value, dict):
        return {
            key: _without_titles(entry)
            for key, entry in value.items()
            if not (key == "title" and isinstance(entry, str))
        }
    return value
