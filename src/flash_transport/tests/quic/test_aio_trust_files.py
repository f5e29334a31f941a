"""Files for trust that are no files, or that somebody holds, over aioquic: an error, in time."""

import asyncio
import contextlib
import fcntl
import os
import threading

import pytest
from quic_peers import LONG, Served

from flash_transport import UntrustedServer
from flash_transport.aio import AsyncFlashTransportPolicy, FlashTransportPolicy
from flash_transport.known_servers_access import warn_of_other_writers
from flash_transport.regular_files import read_regular_file

KINDS = ["a fifo", "a directory", "a device"]


def path_of(kind, tmp_path):
    path = tmp_path / "named"
    if kind == "a fifo":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_known_servers_that_is_no_file_is_an_error_that_names_it(kind, tmp_path):
    path = path_of(kind, tmp_path)
    with Served() as served, pytest.raises(UntrustedServer, match=f"{path}: it is {kind}"):
        FlashTransportPolicy("127.0.0.1", served.port, known_servers=path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ca_file_that_is_no_file_is_an_error_that_names_it(kind, tmp_path):
    path = path_of(kind, tmp_path)
    with pytest.raises(ValueError, match=f"ca_file {path} .*it is {kind}, expected a file"):
        FlashTransportPolicy("127.0.0.1", 1, ca_file=path)


@contextlib.contextmanager
def lock_of(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def test_known_servers_that_stay_locked_are_an_error_that_names_the_directory(tmp_path):
    with (
        Served() as served,
        lock_of(tmp_path),
        pytest.raises(UntrustedServer, match=f"another program holds the lock of {tmp_path}"),
    ):
        FlashTransportPolicy(
            "127.0.0.1", served.port, known_servers=tmp_path / "known", connect_timeout=0.5
        )


def test_known_servers_that_are_locked_for_a_moment_are_waited_for(tmp_path, monkeypatch):
    waits = threading.Event()
    sleep = asyncio.sleep

    async def noticed(seconds):
        waits.set()
        await sleep(seconds)

    monkeypatch.setattr("flash_transport.aio.trust.asyncio.sleep", noticed)
    known = tmp_path / "known"
    with Served() as served:
        with contextlib.ExitStack() as lock:
            lock.enter_context(lock_of(tmp_path))
            release = threading.Thread(target=lambda: (waits.wait(LONG), lock.close()))
            release.start()
            FlashTransportPolicy(
                "127.0.0.1", served.port, known_servers=known, connect_timeout=LONG
            ).close()
            release.join()
        assert served.server.fingerprint in known.read_text()


def test_the_event_loop_runs_while_a_lock_is_waited_for(tmp_path):
    async def connect(port):
        policy = AsyncFlashTransportPolicy(
            "127.0.0.1", port, known_servers=tmp_path / "known", connect_timeout=0.5
        )
        connecting = asyncio.create_task(policy.connect())
        beats = 0
        while not connecting.done():
            beats += 1
            await asyncio.sleep(0.01)
        with pytest.raises(UntrustedServer):
            await connecting
        await policy.close()
        return beats

    with Served() as served, lock_of(tmp_path):
        assert asyncio.run(connect(served.port)) > 5


def test_nothing_but_the_list_is_left_beside_it(tmp_path):
    with Served() as served:
        for _ in range(2):
            FlashTransportPolicy("127.0.0.1", served.port, known_servers=tmp_path / "known").close()
    assert [path.name for path in tmp_path.iterdir()] == ["known"]
    assert (tmp_path / "known").stat().st_mode & 0o777 == 0o600


def test_a_file_without_an_end_is_not_read_to_it(tmp_path):
    (tmp_path / "large").write_bytes(bytes(11))
    assert read_regular_file(tmp_path / "large", max_bytes=11) == bytes(11)
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_regular_file(tmp_path / "large", max_bytes=10)


def test_a_link_to_a_missing_file_is_an_error_that_names_it_and_stays(tmp_path):
    known, missing = tmp_path / "known", tmp_path / "not mounted yet"
    known.symlink_to(missing)
    with Served() as served, pytest.raises(UntrustedServer, match=r"known: it is a symbolic link"):
        FlashTransportPolicy("127.0.0.1", served.port, known_servers=known, connect_timeout=LONG)
    assert known.is_symlink()
    assert not missing.exists()


@pytest.mark.parametrize(
    ("modes", "warned"),
    [
        ((0o700, 0o600), 0),
        ((0o755, 0o644), 0),
        ((0o777, 0o600), 1),
        ((0o1777, 0o600), 0),
        ((0o770, 0o620), 2),
    ],
)
def test_a_list_that_others_can_change_is_warned_about_once(modes, warned, tmp_path, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    known = folder / "known"
    known.write_text("")
    for place, mode in zip((folder, known), modes, strict=True):
        place.chmod(mode)
    for _ in range(2):
        warn_of_other_writers(known)
    assert [record.message.count("chmod go-w") for record in caplog.records] == [1] * warned
