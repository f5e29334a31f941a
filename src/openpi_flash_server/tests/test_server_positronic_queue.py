"""Which session gets its checkpoint, and which checkpoint is loaded and unloaded for it."""

from hypothesis import given
from hypothesis import strategies as st

from openpi_flash_server.positronic.checkpoint_names import checkpoint_names, find_checkpoint
from openpi_flash_server.positronic.checkpoint_queue import Admit, CheckpointQueue, Load


def test_a_checkpoint_is_loaded_once_for_all_who_want_it():
    queue = CheckpointQueue(1)
    queue.ask(1, "a")
    queue.ask(2, "a")
    assert queue.step() == Load("a", None)
    assert queue.step() is None
    queue.loaded("a")
    assert [queue.step(), queue.step(), queue.step()] == [Admit(1, "a"), Admit(2, "a"), None]


def test_another_checkpoint_waits_until_every_session_has_ended():
    queue = CheckpointQueue(1)
    for request in (1, 2):
        queue.ask(request, "a")
    queue.step()
    queue.loaded("a")
    queue.step()
    queue.step()
    queue.ask(3, "b")
    assert queue.step() is None
    assert queue.sessions_before(3) == 2
    queue.left("a")
    assert queue.step() is None
    assert queue.sessions_before(3) == 1
    queue.left("a")
    assert queue.step() == Load("b", "a")
    assert queue.sessions_before(3) == 0
    # the one that was unloaded is not given out meanwhile
    queue.ask(4, "a")
    assert queue.step() is None
    queue.loaded("b")
    assert queue.step() == Admit(3, "b")
    assert queue.step() is None


def test_of_idle_checkpoints_the_one_unused_for_longest_is_unloaded():
    queue = CheckpointQueue(2)
    for request, name in ((1, "a"), (2, "b")):
        queue.ask(request, name)
        queue.step()
        queue.loaded(name)
        queue.step()
    queue.ask(3, "a")
    queue.step()
    for name in ("a", "a", "b"):
        queue.left(name)
    queue.ask(4, "c")
    assert queue.step() == Load("c", "b")


def test_a_checkpoint_that_cannot_be_loaded_is_refused_and_may_be_asked_for_again():
    queue = CheckpointQueue(1)
    queue.ask(1, "a")
    queue.ask(2, "b")
    queue.step()
    assert queue.failed("a") == [1]
    assert queue.step() == Load("b", None)
    queue.loaded("b")
    assert queue.step() == Admit(2, "b")
    queue.left("b")
    queue.ask(3, "a")
    assert queue.step() == Load("a", "b")


def test_nothing_is_loaded_for_a_session_that_is_gone():
    queue = CheckpointQueue(1)
    queue.ask(1, "a")
    queue.cancel(1)
    assert queue.step() is None


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from(["ask", "leave", "cancel", "end"]), st.integers(0, 9)),
        max_size=80,
    ),
)
def test_whatever_happens_each_session_gets_its_own_checkpoint_and_room_is_kept(room, history):
    queue = CheckpointQueue(room)
    wanted, admitted = {}, {}
    memory, loading = set(), None
    for number, (action, value) in enumerate(history):
        if action == "ask":
            wanted[number] = "abcde"[value % 5]
            queue.ask(number, wanted[number])
        elif action == "leave" and admitted:
            queue.left(admitted.pop(sorted(admitted)[value % len(admitted)]))
        elif action == "cancel" and wanted:
            gone = sorted(wanted)[value % len(wanted)]
            del wanted[gone]
            queue.cancel(gone)
        elif action == "end" and loading is not None:
            if value < 8:
                queue.loaded(loading)
                memory.add(loading)
            else:
                refused = queue.failed(loading)
                assert all(wanted.pop(request) == loading for request in refused)
            loading = None
        while (step := queue.step()) is not None:
            if isinstance(step, Admit):
                assert wanted.pop(step.request) == step.name
                assert step.name in memory
                admitted[step.request] = step.name
            else:
                assert loading is None
                assert step.unload not in admitted.values()
                memory.discard(step.unload)
                loading = step.name
        assert len(memory) + (loading is not None) <= room
        # nobody waits for what is there, or while there is room for it
        assert not memory & set(wanted.values())
        assert loading is not None or not wanted or len(memory) == room


def test_checkpoints_are_numbered_directories_by_rising_step(tmp_path):
    for name in ("20000", "9000", "005000", "wandb", "checkpoint-7", "1.5"):
        (tmp_path / name).mkdir()
    (tmp_path / "30000").write_text("a file")
    names = checkpoint_names(tmp_path)
    assert names == ["005000", "9000", "20000"]
    assert checkpoint_names(tmp_path / "none") == []
    assert find_checkpoint("5000", names) == "005000"
    assert find_checkpoint("checkpoint-20000", names) == "20000"
    assert find_checkpoint("30000", names) is None
    assert find_checkpoint("../20000", names) is None
    assert find_checkpoint("٣", ["3"]) is None
