"""What a URL names, and where it is kept: never outside the cache, never in another's place."""

import io

import pytest
from storage_server import Store, serve

from openpi_flash_models.downloads import cache_root, cached, fetch, list_names
from openpi_flash_models.downloads.location import parse_location
from openpi_flash_models.errors import DownloadError
from openpi_flash_models.files import expand_home


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


@pytest.fixture
def store(monkeypatch):
    store = Store()
    server, address = serve(store)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("HF_ENDPOINT", address)
    store.address = address
    yield store
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "https://host/%2Fetc%2Fpasswd",
        "https://host/a/%2e%2e/%2e%2e/%2e%2e/x",
        "https://host/a/..%2f..%2fx",
        "https://host/a%5cb",
        "https://host/a%00b",
        "https://../x",
        "https://host/",
        "https://[host/x",
        "gs://bucket/../../x",
        "gs://../x",
        "gs://bucket/./x",
        "gs://bucket/a\\..\\b",
        "gs://bucket/a\0b",
        "gs://bucket//",
        "gs://",
        "hf://org/../x",
        "hf://org",
        "ftp://a/b",
        "file:///etc/passwd",
        "gs://bucket/" + "x" * 250,
    ],
)
def test_a_url_never_names_a_place_outside_the_cache(url, cache):
    with pytest.raises(DownloadError):
        cached(url)
    with pytest.raises(DownloadError):
        fetch(url, progress=io.StringIO())
    assert not cache.exists()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("gs://bucket/run#2", "bucket/run#2"),
        ("gs://bucket/a?b=c", "bucket/a?b=c"),
        ("gs://bucket/%2Fetc%2Fx", "bucket/%2Fetc%2Fx"),
        ("gs://bucket/a%20b/", "bucket/a%20b"),
        ("hf://org/repo@v1/a#b", "org/repo@v1/a#b"),
        ("https://host/a%20b/c%23d", "host/a b/c#d"),
        ("https://host/f?token=1/2", "host/f?token=1%2F2"),
        ("http://127.0.0.1:80/x", "127.0.0.1:80/x"),
    ],
)
def test_two_urls_have_two_places(url, place, cache):
    assert cached(url) == cache / place
    assert parse_location(url).cache_path.as_posix() == place


def test_a_fragment_is_refused_and_says_how_to_write_it():
    with pytest.raises(DownloadError, match="write %23 for one in a name"):
        cached("https://host/run#2")


@pytest.mark.parametrize("name", ["run#2", "a?b&c=d", "a%20b", "%2Fetc", "a b", "ü", "a+b", "a[1]"])
def test_an_object_of_any_name_is_fetched_and_no_other(name, store, cache):
    store.objects |= {
        f"bucket/{name}/params/_METADATA": b"mine",
        "bucket/run/params/_METADATA": b"another's",
        "bucket/a/params/_METADATA": b"another's",
        "bucket/a b c/params/_METADATA": b"another's",
    }
    url = f"gs://bucket/{name}"
    assert list_names(url) == ["params/_METADATA"]
    found = fetch(url, progress=io.StringIO())
    assert found == cache / "bucket" / name
    assert (found / "params/_METADATA").read_bytes() == b"mine"


def test_names_are_listed_without_fetching(store, cache):
    store.objects |= {
        "bucket/pi05/params/_METADATA": b"{}",
        "bucket/pi05/assets/droid/norm_stats.json": b"{}",
        "bucket/file.tar": b"x",
        "org/repo/config.json": b"{}",
        "org/repo/sub/model.safetensors": b"x",
    }
    assert list_names("gs://bucket/pi05") == ["assets/droid/norm_stats.json", "params/_METADATA"]
    assert list_names("gs://bucket/file.tar") == [""]
    assert sorted(list_names("hf://org/repo")) == ["config.json", "sub/model.safetensors"]
    assert list_names("hf://org/repo@main/sub") == ["model.safetensors"]
    assert list_names("hf://org/repo/config.json") == [""]
    assert list_names(f"{store.address}/bucket/file.tar") == [""]
    with pytest.raises(DownloadError, match="hf://org/repo has no nothing"):
        list_names("hf://org/repo/nothing")
    with pytest.raises(DownloadError, match="hf://org/none does not exist"):
        list_names("hf://org/none")
    with pytest.raises(DownloadError, match="gs://bucket/nothing does not exist"):
        list_names("gs://bucket/nothing")
    # the hub's library asks its server what it is, once
    assert [name for name, _ in store.requests if not name.startswith("api/")] == []
    assert not cache.exists()


@pytest.fixture
def homeless(monkeypatch):
    """As in a container whose user has no entry in /etc/passwd."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)


def test_without_a_home_the_variable_that_helps_is_named(homeless, monkeypatch):
    monkeypatch.delenv("OPENPI_DATA_HOME")
    with pytest.raises(DownloadError, match=r"no home directory.*; set OPENPI_DATA_HOME to a dir"):
        cache_root()
    with pytest.raises(DownloadError, match="set OPENPI_DATA_HOME"):
        fetch("gs://bucket/x", progress=io.StringIO())
    with pytest.raises(DownloadError, match=r"~/weights: .*give a whole path"):
        fetch("~/weights")
    monkeypatch.setenv("OPENPI_DATA_HOME", "~/data")
    with pytest.raises(DownloadError, match=r"~/data: .*set OPENPI_DATA_HOME"):
        cache_root()
    monkeypatch.setenv("OPENPI_DATA_HOME", "/data")
    assert cache_root().as_posix() == "/data"
    assert expand_home("/a/~b").as_posix() == "/a/~b"
