"""Compiled programs are kept where they are asked to be."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from openpi_flash_models.jax_models.compile_cache import VARIABLE, use_compile_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """Every test starts without a cache, and leaves none behind."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_a_directory_that_is_named_is_used(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "programs"))
    assert use_compile_cache() == tmp_path / "programs"
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.jit(lambda x: jnp.sin(x) * 3.25 + 1.125)(jnp.ones(7)).block_until_ready()
    assert list((tmp_path / "programs").iterdir())


@pytest.mark.parametrize("value", ["", "off"])
def test_programs_for_a_cpu_are_kept_only_if_asked_for(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    assert use_compile_cache() is None


def test_the_frameworks_own_setting_goes_before(monkeypatch, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "off")
    assert use_compile_cache() == tmp_path
