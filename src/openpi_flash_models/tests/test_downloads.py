"""Downloads from servers that break off, lie and come back, over real sockets."""

import errno
import io
import shutil
import subprocess
import sys
import urllib.request
from email.message import Message

import numpy as np
import pytest
from storage_server import Store, serve

from openpi_flash_models.downloads import cache_root, cached, connection, fetch, install, transfer
from openpi_flash_models.downloads.crc32c import Crc32c
from openpi_flash_models.downloads.hub import HubLocation, parse_hub_url
from openpi_flash_models.downloads.install import MANIFEST
from openpi_flash_models.downloads.progress import Progress, describe
from openpi_flash_models.errors import DownloadError

URL = "gs://assets/checkpoints/tiny"


def random_bytes(count, seed=0):
    return np.random.default_rng(seed).bytes(count)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def address(store):
    server, address = serve(store)
    yield address
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(address, tmp_path, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "_PAUSES_S", (0.0,))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(store):
    """A directory of a few files, one of them larger than a block."""
    files = {
        "params/_METADATA": b"{}",
        "params/d/0123": random_bytes(2_500_000),
        "params/d/empty": b"",
        "assets/droid/norm_stats.json": b'{"norm_stats": {}}',
    }
    store.objects |= {f"assets/checkpoints/tiny/{name}": data for name, data in files.items()}
    store.objects["assets/checkpoints/tiny_2/other"] = b"a neighbour"
    store.objects["assets/checkpoints/tiny/params/"] = b""  # as consoles leave them
    return files


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


def leftovers(cache):
    return [
        path.name for path in cache.rglob("*") if ".part" in path.name or ".download" in path.name
    ]


BIG = "assets/checkpoints/tiny/params/d/0123"


def test_a_directory_lands_in_openpis_cache(checkpoint, cache):
    path = fetch(URL, progress=io.StringIO())
    assert path == cache / "assets" / "checkpoints" / "tiny"
    assert contents(path) == checkpoint
    assert leftovers(cache) == []


def test_what_is_there_is_not_asked_for_again(checkpoint, store):
    fetch(URL, progress=io.StringIO())
    store.requests.clear()
    store.objects.clear()
    assert contents(fetch(URL)) == checkpoint
    assert store.requests == []


def test_a_single_file_lands_under_its_own_name(store, cache):
    store.objects["big_vision/paligemma_tokenizer.model"] = b"pieces"
    store.objects["big_vision/paligemma_tokenizer.model.bak"] = b"neighbour"
    path = fetch("gs://big_vision/paligemma_tokenizer.model", progress=io.StringIO())
    assert path == cache / "big_vision" / "paligemma_tokenizer.model"
    assert path.read_bytes() == b"pieces"


def test_a_listing_of_many_pages_is_read_to_its_end(store):
    files = {f"many/dir/{i}": str(i).encode() for i in range(25)}
    store.objects |= files
    store.page = 4
    assert len(contents(fetch("gs://many/dir", progress=io.StringIO()))) == 25


@pytest.mark.parametrize("composite", [False, True], ids=["md5", "crc32c"])
def test_a_connection_that_breaks_goes_on_where_it_stopped(checkpoint, store, composite):
    if composite:
        store.composite.add(BIG)
    store.cut[BIG] = [1_000_000, 700_000]
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint
    ranges = [span for name, span in store.requests if name == BIG]
    assert ranges == ["", "bytes=1000000-", "bytes=1700000-"]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(checkpoint, store, cache):
    store.cut[BIG] = [500_000] + [0] * (transfer.ATTEMPTS - 1)
    with pytest.raises(DownloadError, match=r"500000 of 2500000|cannot reach"):
        fetch(URL, progress=io.StringIO())
    assert not (cache / "assets/checkpoints/tiny").exists(), "half a checkpoint has no name"
    store.requests.clear()
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint
    asked = dict(store.requests)
    assert asked[BIG] == "bytes=500000-"
    assert leftovers(cache) == []


def test_a_server_without_ranges_starts_over(checkpoint, store):
    store.cut[BIG] = [1_000_000]
    store.no_ranges.add(BIG)
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint


def test_garbled_bytes_are_fetched_again(checkpoint, store):
    store.garbled[BIG] = 2
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint


@pytest.mark.parametrize("composite", [False, True], ids=["MD5", "CRC-32C"])
def test_bytes_that_never_match_their_checksum_are_not_installed(
    checkpoint, store, cache, composite
):
    store.wrong_sums.add(BIG)
    if composite:
        store.composite.add(BIG)
    with pytest.raises(DownloadError, match=r"(MD5|CRC-32C) is .*, expected .*5 attempts"):
        fetch(URL, progress=io.StringIO())
    assert not (cache / "assets/checkpoints/tiny").exists()


def test_a_beginning_of_other_bytes_is_found_out(checkpoint, store, cache):
    partial = cache / "assets/checkpoints/.tiny.download/params/d"
    partial.mkdir(parents=True)
    (partial / "0123.part").write_bytes(random_bytes(400_000, seed=9))
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint


@pytest.mark.parametrize("longer", [2_500_000, 2_600_000])
def test_a_part_as_long_as_the_file_or_longer_is_checked_too(checkpoint, cache, longer):
    partial = cache / "assets/checkpoints/.tiny.download/params/d"
    partial.mkdir(parents=True)
    (partial / "0123.part").write_bytes(bytes(longer))
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint


def test_a_server_that_is_busy_is_asked_again(checkpoint, store):
    store.status[BIG] = [503, 429, 500]
    assert contents(fetch(URL, progress=io.StringIO())) == checkpoint


def test_a_file_that_vanishes_ends_the_download_at_once(checkpoint, store):
    store.status[BIG] = [404]
    with pytest.raises(DownloadError, match=r"params%2Fd%2F0123.* does not exist \(HTTP 404\)"):
        fetch(URL, progress=io.StringIO())
    assert [name for name, _ in store.requests].count(BIG) == 1


def test_what_does_not_exist_is_named(store, cache):
    with pytest.raises(DownloadError, match=r"^gs://assets/nothing does not exist$"):
        fetch("gs://assets/nothing", progress=io.StringIO())
    store.status["secret"] = [401]
    with pytest.raises(DownloadError, match=r"^gs://secret/it is not public \(HTTP 401\)$"):
        fetch("gs://secret/it", progress=io.StringIO())


def test_a_server_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"^cannot reach 127.0.0.1:9: .*refused"):
        fetch(URL, progress=io.StringIO())


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "gs://bucket", "gs:///x", "gs://bucket/../../x", "hf://org"]
)
def test_a_url_that_names_nothing_is_refused(url, cache):
    with pytest.raises(DownloadError, match=r"fetch|names no"):
        fetch(url, progress=io.StringIO())
    assert not cache.exists() or not [
        p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"
    ]


def test_an_object_that_would_leave_its_directory_is_refused(store):
    store.objects["assets/evil/../../escaped"] = b"x"
    with pytest.raises(DownloadError, match="would be written outside its directory"):
        fetch("gs://assets/evil", progress=io.StringIO())


def test_a_local_path_is_itself(tmp_path, monkeypatch):
    assert fetch(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    assert fetch("~/here") == tmp_path / "here"
    with pytest.raises(DownloadError, match="no such file or directory: .*nowhere"):
        fetch(str(tmp_path / "nowhere"))


def test_a_forced_download_replaces_what_was_downloaded(checkpoint, store, cache):
    path = fetch(URL, progress=io.StringIO())
    store.objects["assets/checkpoints/tiny/params/_METADATA"] = b"{1}"
    del store.objects["assets/checkpoints/tiny/params/d/empty"]
    fetch(URL, force=True, progress=io.StringIO())
    expected = checkpoint | {"params/_METADATA": b"{1}"}
    del expected["params/d/empty"]
    assert contents(path) == expected
    assert sorted(p.name for p in path.parent.iterdir()) == ["tiny", "tiny.lock"]


def test_a_forced_download_moves_aside_what_somebody_else_put_there(checkpoint, cache):
    path = cached(URL)
    path.mkdir(parents=True)
    (path / "mine").write_text("precious")
    fetch(URL, force=True, progress=io.StringIO())
    assert contents(path) == checkpoint
    assert (path.parent / "tiny.before" / "mine").read_text() == "precious"


def test_a_forced_download_that_fails_leaves_the_old_one(checkpoint, store, cache):
    path = fetch(URL, progress=io.StringIO())
    store.status[BIG] = [404]
    with pytest.raises(DownloadError):
        fetch(URL, force=True, progress=io.StringIO())
    assert contents(path) == checkpoint


def test_two_processes_download_once(checkpoint, store):
    code = f"from openpi_flash_models.downloads import fetch; print(fetch({URL!r}))"
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {worker.communicate(timeout=60)[0].strip() for worker in workers}
    assert paths == {str(cached(URL))}
    assert [name for name, _ in store.requests].count(BIG) == 1


def test_a_disk_that_is_too_small_is_found_before_the_download(checkpoint, store, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"tiny needs 3 MB on the disk of .*, 1 kB are free"):
        fetch(URL, progress=io.StringIO())
    assert store.requests == []


def test_a_disk_that_cannot_be_written_is_named(checkpoint, cache):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file")
    with pytest.raises(DownloadError, match="cannot write .*cache"):
        fetch(URL, progress=io.StringIO())


def test_a_disk_that_fills_up_is_not_taken_for_a_bad_connection(checkpoint, store, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    class Full(io.BytesIO):
        def write(self, block):
            raise full

    monkeypatch.setattr(transfer, "_opened", lambda part, mode: Full())
    with pytest.raises(DownloadError, match=r"^cannot write .*\.part: No space left on device$"):
        fetch(URL, progress=io.StringIO())
    assert [name for name, _ in store.requests].count(BIG) <= 1


def test_a_file_of_the_web_is_fetched(address, store, cache):
    store.objects["files/tokenizer.model"] = b"pieces"
    url = f"{address}/files/tokenizer.model"
    assert fetch(url, progress=io.StringIO()).read_bytes() == b"pieces"
    assert cached(url).parent.parent.parent == cache
    with pytest.raises(DownloadError, match="does not exist"):
        fetch(f"{address}/files/none", progress=io.StringIO())


@pytest.mark.parametrize("length", ["-5", "1e3", "9" * 4000, "٣"])
def test_a_length_that_no_file_has_is_refused(length, address, store):
    store.objects["files/tokenizer.model"] = b"pieces"
    store.lengths["files/tokenizer.model"] = length.encode().decode("latin-1")
    with pytest.raises(DownloadError, match="the server says that the file has") as refused:
        fetch(f"{address}/files/tokenizer.model", progress=io.StringIO())
    assert len(str(refused.value)) < 300


def test_a_download_that_is_not_encrypted_is_refused_unless_somebody_allows_it(monkeypatch):
    monkeypatch.delenv(connection.ALLOW_HTTP, raising=False)
    url = "http://weights.invalid/model.safetensors"
    with pytest.raises(DownloadError, match=r"weights\.invalid.* not encrypted.*set OPENPI_FLASH"):
        fetch(url, progress=io.StringIO())
    monkeypatch.setenv(connection.ALLOW_HTTP, "1")
    with pytest.raises(DownloadError, match=r"^cannot reach weights\.invalid"):
        fetch(url, progress=io.StringIO())


def test_an_encrypted_download_is_not_sent_on_to_an_address_that_is_not():
    handler = connection._KeepsEncryption()
    encrypted = urllib.request.Request("https://weights.invalid/a")
    arguments = (None, 302, "Found", Message())
    for elsewhere in ("http://other.invalid/a", "ftp://other.invalid/a"):
        with pytest.raises(DownloadError, match=r"sends on to .*other\.invalid/a, which"):
            handler.redirect_request(encrypted, *arguments, elsewhere)
    kept = handler.redirect_request(encrypted, *arguments, "https://other.invalid/a")
    assert kept.full_url == "https://other.invalid/a"


def test_the_cache_is_openpis_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENPI_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "openpi"
    assert cached("gs://openpi-assets/checkpoints/pi05_droid") == (
        tmp_path / ".cache/openpi/openpi-assets/checkpoints/pi05_droid"
    )


def test_urls_of_the_hub_are_taken_apart():
    assert parse_hub_url("hf://org/repo") == HubLocation("org/repo", None, "")
    assert parse_hub_url("hf://org/repo@v1/a/b") == HubLocation("org/repo", "v1", "a/b")


@pytest.mark.parametrize("path", ["", "/params"])
def test_a_repository_of_the_hub_is_fetched(path, address, store, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    store.objects |= {"org/repo/config.json": b"{}", "org/repo/params/d/1": b"bytes"}
    found = fetch(f"hf://org/repo{path}", progress=io.StringIO())
    assert found == cache / "org" / f"repo{path}"
    expected = {"d/1": b"bytes"} if path else {"config.json": b"{}", "params/d/1": b"bytes"}
    assert contents(found) == expected
    assert leftovers(cache) == []


def test_what_the_hub_does_not_have_is_named(address, store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(DownloadError, match="hf://org/repo does not exist, or needs HF_TOKEN"):
        fetch("hf://org/repo", progress=io.StringIO())
    store.objects["org/repo/config.json"] = b"{}"
    with pytest.raises(DownloadError, match="hf://org/repo has no weights"):
        fetch("hf://org/repo/weights", progress=io.StringIO())


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c_has_the_values_of_its_standard(data, value):
    crc = Crc32c()
    crc.update(data)
    assert crc.value() == value


def test_crc32c_does_not_depend_on_how_the_bytes_come():
    data = random_bytes(3_300_001)
    whole, pieces = Crc32c(), Crc32c()
    whole.update(data)
    for start in range(0, len(data), 777_777):
        pieces.update(data[start : start + 777_777])
    assert whole.value() == pieces.value()
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    plain = 0xFFFFFFFF
    for byte in data[:100_000]:
        plain = (plain >> 8) ^ table[(plain ^ byte) & 0xFF]
    short = Crc32c()
    short.update(data[:100_000])
    assert short.value() == plain ^ 0xFFFFFFFF


def test_progress_says_how_much_of_how_much():
    line = describe("pi05_base", 3_000_000_000, 12_000_000_000, 85e6)
    assert line == "pi05_base  [######..................] 3.0 GB of 12.0 GB  85 MB/s"
    assert describe("x", 1500, None, 0) == "x  2 kB  0 B/s"
    stream = io.StringIO()
    bar = Progress("tiny", 10, stream)
    bar.skip(4)
    bar.add(6)
    bar.finish()
    assert "10 B of 10 B" in stream.getvalue()
