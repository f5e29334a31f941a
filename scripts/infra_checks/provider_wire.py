"""A provider's schema as bytes of Terraform's plugin protocol 6 (protocol buffers).

Field numbers are those of `tfplugin6.proto` of github.com/hashicorp/terraform-plugin-go.
"""

from __future__ import annotations

import json

from infra_checks.provider_types import Attribute, Block, NestedBlock, Provider

NESTED_LIST, NESTED_SET = 2, 3


def schema_response(provider: Provider) -> bytes:
    """A GetProviderSchema.Response."""
    return b"".join(
        (
            _bytes(1, _schema(provider.configuration)),
            *(_entry(2, name, block) for name, block in provider.resources.items()),
            *(_entry(3, name, block) for name, block in provider.data_sources.items()),
        )
    )


def _entry(field: int, name: str, block: Block) -> bytes:
    return _bytes(field, _bytes(1, name.encode()) + _bytes(2, _schema(block)))


def _schema(block: Block) -> bytes:
    return _bytes(2, _block(block))


def _block(block: Block) -> bytes:
    return b"".join(
        (
            *(_bytes(2, _attribute(one)) for one in block.attributes),
            *(_bytes(3, _nested(one)) for one in block.blocks),
        )
    )


def _attribute(attribute: Attribute) -> bytes:
    return b"".join(
        (
            _bytes(1, attribute.name.encode()),
            _bytes(2, json.dumps(attribute.type).encode()),
            _number(4, attribute.is_required),
            _number(5, attribute.is_optional),
            _number(6, attribute.is_computed),
        )
    )


def _nested(nested: NestedBlock) -> bytes:
    return b"".join(
        (
            _bytes(1, nested.name.encode()),
            _bytes(2, _block(nested.block)),
            _number(3, NESTED_SET if nested.is_set else NESTED_LIST),
            _number(4, nested.is_required),
            _number(5, nested.is_single),
        )
    )


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    """Nothing for 0, as protocol buffers have it."""
    return _varint(field << 3) + _varint(int(value)) if value else b""


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
