"""The JSON schemas of a file's messages, by the names that viewers know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from openpi_flash_robot.mcap.writer import Schema as McapSchema

Schema = Mapping[str, Any]


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_TIME = {
    "type": "object",
    "title": "time",
    "properties": {
        "sec": {"type": "integer", "minimum": 0},
        "nsec": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    },
}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_STRING: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_BY_JOINT: Schema = {"type": "object", "additionalProperties": _NUMBER}
_TABLE = _list(_list(_NUMBER))

SCHEMAS: Mapping[str, Schema] = {
    "foxglove.CompressedImage": _object(
        timestamp=_TIME,
        frame_id=_STRING,
        data={"type": "string", "contentEncoding": "base64"},
        format=_STRING,
    ),
    "foxglove.Log": _object(
        timestamp=_TIME,
        level={"type": "integer", "oneOf": [{"title": "WARNING", "const": 3}]},
        message=_STRING,
        name=_STRING,
        file=_STRING,
        line=_INTEGER,
    ),
    "openpi_flash.Recording": _object(
        node=_STRING, cause=_STRING, joints=_list(_STRING), records=_INTEGER, dropped=_INTEGER
    ),
    "openpi_flash.Settings": _object(),
    "openpi_flash.Image": _object(stamp=_TIME, age=_NUMBER),
    "openpi_flash.Joints": _object(
        stamp=_TIME, age=_NUMBER, positions=_BY_JOINT, velocities=_BY_JOINT, efforts=_BY_JOINT
    ),
    "openpi_flash.StopInput": _object(topic=_STRING, value=_BOOLEAN),
    "openpi_flash.Server": _object(connected=_BOOLEAN, message=_STRING),
    "openpi_flash.Request": _object(
        request_id=_INTEGER,
        images={"type": "object", "additionalProperties": _TIME},
        joints_stamp=_TIME,
        positions=_BY_JOINT,
        prompt=_STRING,
        timeout=_NUMBER,
        is_continuation=_BOOLEAN,
    ),
    "openpi_flash.Answer": _object(
        request_id=_INTEGER,
        error=_STRING,
        actions=_TABLE,
        description=_STRING,
        preprocess=_NUMBER,
        serialize=_NUMBER,
        total=_NUMBER,
        bytes_up=_INTEGER,
        bytes_down=_INTEGER,
    ),
    "openpi_flash.Chunk": _object(
        sequence=_INTEGER,
        start=_TIME,
        observation_stamp=_TIME,
        age=_NUMBER,
        step=_NUMBER,
        first_step=_INTEGER,
        prompt=_STRING,
        actions=_TABLE,
    ),
    "openpi_flash.Motion": _object(
        positions=_BY_JOINT,
        velocities=_BY_JOINT,
        joints=_list(_STRING),
        start=_TIME,
        is_stamped=_BOOLEAN,
        times=_list(_NUMBER),
        points=_TABLE,
        point_velocities=_TABLE,
    ),
    "openpi_flash.Stats": _object(
        **dict.fromkeys(("observation_age", "network", "server", "total"), _NUMBER),
        jpeg_quality=_INTEGER,
        link_rate=_NUMBER,
        link_queue=_NUMBER,
    ),
    "openpi_flash.Subtask": _object(text=_STRING, prompt=_STRING, sequence=_INTEGER),
    "openpi_flash.Status": _object(
        state=_STRING,
        cause=_STRING,
        message=_STRING,
        resumes_by_itself=_BOOLEAN,
        prompt=_STRING,
        sequence=_INTEGER,
        chunk_age=_NUMBER,
        steps_buffered=_INTEGER,
        limited_share=_NUMBER,
        tracking_error=_NUMBER,
        intervention=_BOOLEAN,
    ),
}
"""Times in them are seconds, positions rad or m. Numbers that are not finite are null."""


def schema_of(name: str) -> McapSchema:
    """One of `SCHEMAS` as a file has it."""
    return McapSchema(name, "jsonschema", json.dumps(SCHEMAS[name]).encode())
