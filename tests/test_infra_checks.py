"""What `scripts/test-infra` makes of packages: the provider's schema, and schemas of Kubernetes."""

import base64
import json

import pytest

from infra_checks.kubernetes_schemas import core_schema, custom_schemas
from infra_checks.provider_types import (
    Attribute,
    Block,
    NestedBlock,
    Provider,
    ProviderTypesError,
    names_in,
    parse_block,
    read_provider,
)
from infra_checks.provider_wire import schema_response

SOURCE = """
export class ThingDiskOutputReference extends cdktn.ComplexObject {
  // size - computed: false, optional: false, required: true
  private _size?: number; 
  public get size() {
    return this.getNumberAttribute('size');
  }
}
export class ThingRuleOutputReference extends cdktn.ComplexObject {
  // ports - computed: false, optional: true, required: false
  private _ports?: number[]; 
  public get ports() {
    return cdktn.Token.asNumberList(cdktn.Fn.tolist(this.getNumberListAttribute('ports')));
  }
}
export class Thing extends cdktn.TerraformResource {
  // arn - computed: true, optional: false, required: false
  public get arn() {
    return this.getStringAttribute('arn');
  }
  // tags - computed: true, optional: true, required: false
  private _tags?: { [key: string]: string }; 
  public get tags() {
    return this.getStringMapAttribute('tags');
  }
  // disk - computed: false, optional: false, required: true
  private _disk = new ThingDiskOutputReference(this, "disk");
  public get disk() {
    return this._disk;
  }
  // rule - computed: false, optional: true, required: false
  private _rule = new ThingRuleList(this, "rule", true);
  public get rule() {
    return this._rule;
  }
}
"""  # noqa: W291

THING = Block(
    attributes=(
        Attribute("arn", "string", is_required=False, is_optional=False, is_computed=True),
        Attribute("tags", ["map", "string"], is_required=False, is_optional=True, is_computed=True),
    ),
    blocks=(
        NestedBlock(
            "disk",
            Block((Attribute("size", "number", True, False, False),)),
            is_set=False,
            is_required=True,
            is_single=True,
        ),
        NestedBlock(
            "rule",
            Block((Attribute("ports", ["set", "number"], False, True, False),)),
            is_set=True,
            is_required=False,
            is_single=False,
        ),
    ),
)


def package(folder, **sources):
    for name, source in sources.items():
        made = folder / "lib" / name.replace("_", "-")
        made.mkdir(parents=True)
        encoded = base64.b64encode(json.dumps({"sourcesContent": [source]}).encode()).decode()
        text = f"//# sourceMappingURL=data:application/json;base64,{encoded}"
        (made / "index.js").write_text(text)
    return folder


def test_a_resource_is_read_with_its_nested_blocks():
    assert parse_block(SOURCE) == THING


def test_only_the_resources_of_some_files_are_read(tmp_path):
    (tmp_path / "main.tf").write_text(
        'resource "aws_thing" "a" {}\ndata "aws_thing" "b" {}\nresource "null_resource" "c" {}\n'
    )
    empty = "export class P extends cdktn.TerraformProvider {\n}\n"
    made = package(tmp_path, provider=empty, thing=SOURCE, data_aws_thing=SOURCE, other=SOURCE)
    provider = read_provider(made, *names_in(tmp_path))
    assert provider == Provider(Block(), {"aws_thing": THING}, {"aws_thing": THING})


def test_a_resource_that_the_provider_does_not_have_is_named(tmp_path):
    made = package(tmp_path, provider="export class P extends cdktn.TerraformProvider {\n}\n")
    with pytest.raises(ProviderTypesError, match="the provider has no thing-of-old"):
        read_provider(made, {"aws_thing_of_old"}, set())


def fields(message):
    """The fields of a message of protocol buffers, by number; values as bytes or integers."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(varint())
        else:
            size = varint()
            found.setdefault(key >> 3, []).append(message[at : at + size])
            at += size
    return found


def test_a_schema_is_written_as_terraform_reads_it():
    response = fields(schema_response(Provider(Block(), {"aws_thing": THING}, {})))
    (resource,) = response[2]
    assert fields(resource)[1] == [b"aws_thing"]
    block = fields(fields(fields(resource)[2][0])[2][0])
    arn, tags = (fields(each) for each in block[2])
    # name, type, computed
    assert arn == {1: [b"arn"], 2: [b'"string"'], 6: [1]}
    assert tags == {1: [b"tags"], 2: [b'["map", "string"]'], 5: [1], 6: [1]}
    disk, rule = (fields(each) for each in block[3])
    # a list with one element at least and at most; a set of any number
    assert (disk[1], disk[3], disk[4], disk[5]) == ([b"disk"], [2], [1], [1])
    assert (rule[1], rule[3], rule.get(4), rule.get(5)) == ([b"rule"], [3], None, None)


def test_a_kind_of_kubernetes_holds_what_it_refers_to():
    schema = {
        "$id": "https://kubernetes.io/api/service/v1",
        "properties": {"spec": {"$ref": "/api/_definitions.json#/$defs/Spec"}},
    }
    definitions = {"$defs": {"Spec": {"items": [{"$ref": "/api/_definitions.json#/$defs/Port"}]}}}
    assert core_schema(schema, definitions) == {
        "properties": {"spec": {"$ref": "#/$defs/Spec"}},
        "$defs": {"Spec": {"items": [{"$ref": "#/$defs/Port"}]}},
    }


def test_a_custom_resource_refuses_fields_that_its_definition_does_not_know():
    spec = {
        "type": "object",
        "properties": {
            # fields that have the names of keywords
            "properties": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}]},
        },
    }
    definition = {
        "spec": {
            "group": "keda.sh",
            "names": {"kind": "ScaledObject"},
            "versions": [
                {
                    "name": "v1alpha1",
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"metadata": {"type": "object"}, "spec": spec},
                        }
                    },
                }
            ],
        }
    }
    ((name, schema),) = custom_schemas(definition)
    assert name == "scaledobject-keda-v1alpha1.json"
    assert schema["additionalProperties"] is False
    assert schema["properties"]["metadata"] == {"type": "object"}
    strict = schema["properties"]["spec"]
    assert strict["additionalProperties"] is False
    assert strict["properties"]["port"]["type"] == ["integer", "string"]
    assert "additionalProperties" not in strict["properties"]["properties"]
