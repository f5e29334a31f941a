"""As much of JSON Schema as the configuration's schema uses; an unknown word in it is an error."""

import re

KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}
NOTES = {"$schema", "$defs", "title", "description", "default", "live"}


def problems(schema, value, root=None, path="$"):
    """What is wrong with the value, by the path; none if it fits."""
    root = schema if root is None else root
    found = []
    for word, rule in schema.items():
        if word in NOTES or (word == "properties" and not isinstance(value, dict)):
            continue
        if word == "$ref":
            found += problems(root["$defs"][rule.removeprefix("#/$defs/")], value, root, path)
        elif word == "anyOf":
            tried = [problems(option, value, root, path) for option in rule]
            found += [] if [] in tried else [f"{path}: none of: {tried}"]
        elif word == "allOf":
            found += [p for part in rule for p in problems(part, value, root, path)]
        elif word == "properties":
            for key, below in rule.items():
                if key in value:
                    found += problems(below, value[key], root, f"{path}.{key}")
        elif word == "items":
            for number, entry in enumerate(value if isinstance(value, list) else ()):
                found += problems(rule, entry, root, f"{path}[{number}]")
        elif not _fits(word, rule, value, schema):
            found.append(f"{path}: {word} {rule}")
    return found


def _fits(word, rule, value, schema):
    assert word in RULES, f"this check does not know the word {word}"
    kind, holds = RULES[word]
    if not isinstance(value, kind) or (kind is NUMBER and isinstance(value, bool)):
        return True
    return holds(value, rule, schema)


def _has_type(value, rule, schema):
    if rule in ("integer", "number"):
        is_number = isinstance(value, NUMBER) and not isinstance(value, bool)
        return is_number and (rule == "number" or value == int(value))
    return isinstance(value, KINDS[rule])


def _knows_every_key(value, rule, schema):
    assert rule is False
    return value.keys() <= schema["properties"].keys()


NUMBER = (int, float)
RULES = {
    "type": (object, _has_type),
    "enum": (object, lambda value, rule, schema: value in rule),
    "required": (dict, lambda value, rule, schema: set(rule) <= value.keys()),
    "additionalProperties": (dict, _knows_every_key),
    "minimum": (NUMBER, lambda value, rule, schema: value >= rule),
    "maximum": (NUMBER, lambda value, rule, schema: value <= rule),
    "exclusiveMinimum": (NUMBER, lambda value, rule, schema: value > rule),
    "minLength": (str, lambda value, rule, schema: len(value) >= rule),
    "maxLength": (str, lambda value, rule, schema: len(value) <= rule),
    "pattern": (str, lambda value, rule, schema: re.search(rule, value) is not None),
}
"""Word -> the type that it is about, and whether a value of that type fits."""
