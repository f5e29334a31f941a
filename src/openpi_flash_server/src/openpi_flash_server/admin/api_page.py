"""Shows an OpenAPI document as a page without scripts. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any


def api_page(document: Mapping[str, Any]) -> str:
    """The page.

    Args:
        document: OpenAPI 3.
    """
    info = document["info"]
    rows = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = f"{method.upper()} {path}"
            rows.append(
                f"<section><h2><code>{html.escape(name)}</code></h2>"
                f"<p>{_text(operation.get('description', ''))}</p>{_fields(document, operation)}"
                "</section>"
            )
    title = html.escape(f"{info['title']} {info['version']}")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{title}</title><link rel="stylesheet" href="/page.css">'
        f"<main><h1>{title}</h1><p>{_text(info.get('description', ''))} "
        'For programs: <a href="/openapi.json">openapi.json</a>. <a href="/">State</a>.</p>'
        f"{''.join(rows)}</main></html>\n"
    )


def _fields(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    reference = body.get("schema", {}).get("$ref", "")
    if not reference:
        return ""
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{_text(field['description'])}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<table>{rows}</table>"


def _text(text: str) -> str:
    """The text with what stands in backquotes as code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts))
