"""Models are loaded once, on demand, and kept while somebody uses them."""

import threading

import pytest
from server_fakes import WAIT

from openpi_flash_server.serving.model_library import ModelLibrary


def test_a_model_is_loaded_once_for_all_who_want_it_at_a_time(in_background):
    library, loading, go_on, loads = ModelLibrary(), threading.Event(), threading.Event(), []

    def load():
        loads.append("a")
        loading.set()
        assert go_on.wait(WAIT)
        return object()

    first = in_background(library.acquire, "a", load)
    assert loading.wait(WAIT)
    second = in_background(library.acquire, "a", load)
    go_on.set()
    assert first.result(WAIT) is second.result(WAIT)
    assert loads == ["a"]


def test_a_model_that_nobody_uses_is_ended_and_the_rest_with_the_library():
    ended = []
    library = ModelLibrary(ended.append)
    for settings in ("a", "a", "b"):
        library.acquire(settings, lambda settings=settings: f"model {settings}")
    library.release("a")
    assert ended == []
    library.release("a")
    assert ended == ["model a"]
    library.close()
    assert ended == ["model a", "model b"]
    library.release("b")
    assert ended == ["model a", "model b", "model b"]


def test_a_model_is_forgotten_when_nobody_uses_it():
    library, loads = ModelLibrary(), []

    def load():
        loads.append(len(loads))
        return loads[-1]

    library.acquire("a", load)
    library.acquire("a", load)
    library.release("a")
    assert library.acquire("a", load) == 0
    library.release("a")
    library.release("a")
    assert library.acquire("a", load) == 1


def test_a_model_that_cannot_be_loaded_is_tried_again():
    library = ModelLibrary()

    def fail():
        raise RuntimeError("no such file")

    with pytest.raises(RuntimeError, match="no such file"):
        library.acquire("a", fail)
    assert library.acquire("a", lambda: "loaded") == "loaded"
