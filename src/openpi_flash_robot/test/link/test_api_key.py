"""api_key.py: where the key comes from, and that no message shows it."""

import os
import socket
import traceback

import pytest

from openpi_flash_robot.link.api_key import (
    ENVIRONMENT_VARIABLE,
    MAX_FILE_BYTES,
    ApiKey,
    find_api_key,
)
from openpi_flash_robot.settings.parameter_kinds import ParameterError
from openpi_flash_robot.settings.parse_settings import settings_from_parameters

KEY = "k3y-of-the-robot"


@pytest.fixture
def link(settings, replace):
    return lambda **changes: replace(settings.link, **changes)


@pytest.fixture
def key_file(tmp_path):
    def write(content=f"{KEY}\n", mode=0o600):
        path = tmp_path / "key"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return str(path)

    return write


def test_without_any_source_there_is_no_key(link):
    assert find_api_key(link(), {}) == ApiKey("", "none")


def test_the_file_overrides_the_environment_which_overrides_the_parameter(link, key_file):
    environment = {ENVIRONMENT_VARIABLE: "of-the-environment"}
    path = key_file()
    assert (
        find_api_key(link(api_key_file=path, api_key="of-the-parameter"), environment).text == KEY
    )
    found = find_api_key(link(api_key="of-the-parameter"), environment)
    assert (found.text, found.source) == ("of-the-environment", ENVIRONMENT_VARIABLE)
    found = find_api_key(link(api_key="of-the-parameter"), {ENVIRONMENT_VARIABLE: ""})
    assert (found.text, found.source) == ("of-the-parameter", "parameter api_key")


def test_the_parameter_warns_that_it_can_be_read_and_that_it_may_be_overridden(link, key_file):
    (warning,) = find_api_key(link(api_key=KEY), {}).warnings
    assert "use api_key_file or OPENPI_FLASH_API_KEY instead" in warning
    path = key_file("another")
    warnings = find_api_key(link(api_key=KEY, api_key_file=path), {}).warnings
    assert warnings[1] == f"parameter api_key is not used: api_key_file {path} overrides it"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_line_feeds_at_the_end_of_the_file_are_no_part_of_the_key(link, key_file, end):
    found = find_api_key(link(api_key_file=key_file(KEY + end)), {})
    assert (found.text, found.warnings) == (KEY, ())


def test_a_path_may_begin_with_the_home_directory(link, key_file, monkeypatch, tmp_path):
    key_file()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_api_key(link(api_key_file="~/key"), {}).text == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602])
def test_a_file_that_others_have_access_to_is_used_with_a_warning(link, key_file, mode):
    path = key_file(mode=mode)
    found = find_api_key(link(api_key_file=path), {})
    assert found.text == KEY
    (warning,) = found.warnings
    assert f"has mode {mode:04o}" in warning
    assert f"chmod 600 {path}" in warning


NO_KEYS = {
    "a line feed": f"{KEY}\n{KEY}",
    "a carriage return": f"{KEY}\r{KEY}",
    "a tab": f"{KEY}\t{KEY}",
    "a NUL": f"{KEY}\0",
    "a control character": f"\x1b{KEY}",
    "not ASCII": f"{KEY}ä",
    "a space": f" {KEY}",
    "characters": f"{KEY}{'x' * 2000}",
}


def refusal(call):
    """The message of the error, after a look for the key wherever an error can hold it."""
    with pytest.raises(ParameterError) as error:
        call()
    everything = "".join(traceback.format_exception(error.value)) + repr(error.value)
    assert KEY not in everything.replace(repr(NO_KEYS), "")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return str(error.value)


@pytest.mark.parametrize("problem", NO_KEYS)
def test_what_is_no_key_is_refused_with_its_source_and_never_shown(link, key_file, problem):
    text = NO_KEYS[problem]
    path = key_file(text)
    message = refusal(lambda: find_api_key(link(api_key_file=path), {}))
    assert message.startswith(f"api_key_file {path}")
    assert problem in message
    message = refusal(lambda: find_api_key(link(), {ENVIRONMENT_VARIABLE: text}))
    assert message.startswith(ENVIRONMENT_VARIABLE)
    message = refusal(lambda: find_api_key(link(api_key=text), {}))
    assert message.startswith("parameter api_key")


@pytest.mark.parametrize("content", ["", "\n", "\r\n\n"])
def test_an_empty_file_is_refused(link, key_file, content):
    path = key_file(content)
    message = refusal(lambda: find_api_key(link(api_key_file=path), {}))
    assert message == f"api_key_file {path} is empty, expected the key"


def test_a_file_that_is_too_long_to_be_a_key_is_refused(link, key_file):
    path = key_file(b"x" * (MAX_FILE_BYTES + 1))
    message = refusal(lambda: find_api_key(link(api_key_file=path), {}))
    assert "has more than 4096 bytes" in message


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (os.mkdir, "is a directory, expected a regular file"),
        (os.mkfifo, "is a fifo, expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device, expected a regular file"),
        (unix_socket, "No such device or address"),
        (lambda path: None, "No such file or directory; write the key into it"),
    ],
    ids=["directory", "fifo", "device", "socket", "nothing"],
)
def test_what_is_no_regular_file_is_refused_at_once(link, tmp_path, make, expected):
    path = tmp_path / "key"
    make(path)
    message = refusal(lambda: find_api_key(link(api_key_file=str(path)), {}))
    assert message.startswith(f"api_key_file {path}")
    assert expected in message


def test_no_text_form_of_settings_or_key_shows_it(parameters):
    link = settings_from_parameters(parameters | {"api_key": KEY}).link
    assert link.api_key == KEY
    assert KEY not in repr(link)
    assert KEY not in repr(find_api_key(link, {}))


@pytest.mark.parametrize("value", [31415926535, 2.718281828, True, [KEY], KEY.encode()])
def test_a_key_that_is_no_text_is_refused_without_being_shown(parameters, value):
    message = refusal(lambda: settings_from_parameters(parameters | {"api_key": value}))
    assert message == "parameter api_key must be a string; write it in quotes"


def test_the_answer_to_who_asks_for_the_parameter_is_no_key(parameters):
    assert settings_from_parameters(parameters | {"api_key": "not set"}).link.api_key == ""
    message = refusal(lambda: settings_from_parameters(parameters | {"api_key": "set"}))
    assert "parameter api_key is 'set', which is what it reads back as" in message
