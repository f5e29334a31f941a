"""parameter_table.py and parameter_kinds.py: the table and its checks."""

import inspect

import pytest

from flash_transport import encode_jpeg, jpeg_message
from openpi_flash_robot.settings.parameter_kinds import (
    Parameter,
    ParameterError,
    ParameterKind,
)
from openpi_flash_robot.settings.parameter_table import PARAMETERS, expand, parse_values

RATE = Parameter("rate", ParameterKind.DOUBLE, 1.0, "A rate.", unit="Hz", low=0.5, high=10.0)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_parameter_has_a_default_of_its_own_type_and_a_sentence(parameter):
    if not parameter.each_of:
        assert parameter.parse(parameter.default) == parameter.default
    assert parameter.text[0].isupper()
    assert parameter.text.endswith(".")


def test_the_quality_of_jpeg_is_the_same_by_default_wherever_it_stands():
    (quality,) = (parameter for parameter in PARAMETERS if parameter.name == "jpeg_quality")
    for function in (encode_jpeg, jpeg_message):
        assert inspect.signature(function).parameters["quality"].default == quality.default


def test_no_name_is_given_twice_and_every_map_belongs_to_a_list():
    names = [parameter.name for parameter in PARAMETERS]
    assert len(set(names)) == len(names)
    lists = {p.name for p in PARAMETERS if p.kind is ParameterKind.STRINGS}
    for parameter in PARAMETERS:
        assert ("<name>" in parameter.name) == bool(parameter.each_of)
        assert not parameter.each_of or parameter.each_of in lists


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        (ParameterKind.DOUBLE, 2, 2.0),
        (ParameterKind.DOUBLES, [1, 2.5], (1.0, 2.5)),
        (ParameterKind.STRINGS, ["a", "b"], ("a", "b")),
        (ParameterKind.INTEGER, 3, 3),
        (ParameterKind.BOOL, False, False),
        (ParameterKind.STRING, "a", "a"),
    ],
)
def test_values_of_the_right_type_are_taken_and_whole_numbers_are_doubles_too(kind, value, parsed):
    result = Parameter("p", kind, "", "P.").parse(value)
    assert result == parsed
    assert type(result) is type(parsed)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ParameterKind.DOUBLE, "2"),
        (ParameterKind.DOUBLE, True),
        (ParameterKind.DOUBLES, "12"),
        (ParameterKind.DOUBLES, [1.0, "2"]),
        (ParameterKind.STRINGS, "ab"),
        (ParameterKind.STRINGS, [1]),
        (ParameterKind.INTEGER, 2.0),
        (ParameterKind.INTEGER, True),
        (ParameterKind.BOOL, 1),
        (ParameterKind.STRING, 10),
        (ParameterKind.STRING, None),
    ],
)
def test_values_of_another_type_are_refused(kind, value):
    with pytest.raises(ParameterError) as error:
        Parameter("p", kind, "", "P.").parse(value)
    assert str(error.value) == f"parameter p must be {kind.with_article}, got {value!r}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.1, "parameter rate must be between 0.5 and 10 Hz, got 0.1"),
        (11, "parameter rate must be between 0.5 and 10 Hz, got 11"),
        (float("nan"), "parameter rate must be finite, got nan"),
        (float("inf"), "parameter rate must be finite, got inf"),
    ],
)
def test_values_out_of_range_are_refused_with_the_range(value, message):
    with pytest.raises(ParameterError) as error:
        RATE.parse(value)
    assert str(error.value) == message


def test_every_value_of_a_list_must_be_in_range():
    speeds = Parameter("speeds", ParameterKind.DOUBLES, (), "S.", low=0.0)
    assert speeds.parse([0.0, 1.0]) == (0.0, 1.0)
    with pytest.raises(ParameterError, match=r"must be at least 0, got \[1.0, -1.0\]"):
        speeds.parse([1.0, -1.0])


def test_a_choice_must_be_one_of_the_choices():
    transport = next(p for p in PARAMETERS if p.name == "transport")
    with pytest.raises(ParameterError) as error:
        transport.parse("carrier pigeon")
    assert str(error.value) == (
        "parameter transport must be one of auto, quic, websocket, got 'carrier pigeon'"
    )


def test_maps_are_written_out_for_every_entry_of_their_list():
    names = set(expand({"cameras": ["scene", "wrist"], "controllers": ["arm"]}))
    assert {"camera.scene.topic", "camera.wrist.key", "controller.arm.joints"} <= names
    assert not any("<name>" in name for name in names)


def test_unknown_names_are_refused_with_the_closest_known_one():
    with pytest.raises(ParameterError) as error:
        parse_values({"max_velocty": [1.0]})
    assert str(error.value) == (
        "unknown parameter max_velocty; the closest known one is max_velocity"
    )
    with pytest.raises(ParameterError, match="unknown parameters qqq, zzz"):
        parse_values({"zzz": 1, "qqq": 1})


def test_an_entry_for_a_camera_that_is_not_in_the_list_is_unknown():
    with pytest.raises(ParameterError, match=r"unknown parameter camera\.wrist\.topic"):
        parse_values({"cameras": ["scene"], "camera.wrist.topic": "/wrist"})


def test_what_is_not_given_has_its_default():
    values = parse_values({"cameras": ["scene"]})
    assert values["request_timeout"] == 1.0
    assert values["camera.scene.topic"] == ""
