"""config/files.py: files of API keys, and who has access to them."""

import pytest

from openpi_flash_server.config.files import key_file_warning, read_keys


def key_file(folder, mode):
    path = folder / "keys"
    path.write_text("# of the lab\n\nfirst\nsecond\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_file_that_others_have_access_to_is_warned_about_with_the_way_to_mend_it(mode, tmp_path):
    path = key_file(tmp_path, mode)
    assert read_keys(path) == ("first", "second")
    warning = key_file_warning(path)
    assert f"mode {mode:04o}" in warning
    assert f"chmod 600 {path}" in warning
    assert "first" not in warning


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_alone_is_not_warned_about(mode, tmp_path):
    assert key_file_warning(key_file(tmp_path, mode)) == ""


def test_a_file_that_is_gone_is_not_warned_about(tmp_path):
    assert key_file_warning(tmp_path / "keys") == ""
