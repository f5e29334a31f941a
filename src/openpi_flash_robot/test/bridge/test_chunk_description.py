"""chunk_description.py: what the columns of a chunk are."""

from openpi_flash_robot.bridge.chunk_description import describe
from openpi_flash_robot.settings.parse_settings import settings_from_parameters
from openpi_flash_robot.settings.server_contract import agree, parse_contract

MEANINGS = [
    {"name": "gripper", "interface": "gripper", "unit": "1", "reference": "absolute"},
    {"name": "shoulder", "interface": "position", "unit": "rad", "reference": "absolute"},
    {"name": "elbow", "interface": "position", "unit": "m", "reference": "absolute"},
]


def described(settings, **metadata):
    contract = parse_contract({"action_rate_hz": 25.0, "action_horizon": 50} | metadata)
    return describe(settings.axes, agree(contract, settings))


def test_the_servers_words_stand_in_the_order_of_the_joints(settings):
    description = described(
        settings,
        action_names=["gripper", "shoulder", "elbow"],
        actions=MEANINGS,
        model="pi05",
        checkpoint={"name": "19999"},
    )
    assert description.names == ("shoulder", "elbow", "gripper")
    assert description.kinds == ("position", "position", "gripper")
    assert description.units == ("rad", "m", "1")
    assert description.references == ("absolute",) * 3
    assert (description.model, description.checkpoint) == ("pi05", "19999")


def test_a_server_that_says_nothing_leaves_it_to_the_node(parameters):
    settings = settings_from_parameters(parameters | {"gripper_joints": ["gripper"]})
    description = described(settings, action_dim=3)
    assert description.kinds == ("position", "position", "gripper")
    assert description.units == ("rad", "rad", "1")
    assert description.references == ("absolute",) * 3
    assert (description.model, description.checkpoint) == ("", "")
