"""Archives that were made to do harm: they write nothing outside, and take no more than allowed."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import tarfile

import pytest

from openpi_flash_models.checkpoints import archive
from openpi_flash_models.checkpoints.archive import ArchiveLimits, unpack
from openpi_flash_models.errors import CheckpointError

WIDE = ArchiveLimits()


def entry(name, content=b"", *, kind=tarfile.REGTYPE, link="", size=None, pax=None):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    member.size = len(content) if size is None else size
    member.pax_headers = pax or {}
    return member, content


def tar_of(*entries):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as made:
        for member, content in entries:
            if len(content) == member.size or member.size == 0:
                made.addfile(member, io.BytesIO(content))
            else:  # a header that lies
                made.fileobj.write(member.tobuf(tarfile.GNU_FORMAT) + content)
                made.offset += 512 + len(content)
    return stream.getvalue()


@pytest.fixture
def place(tmp_path):
    """The directory to unpack into, in one that has to stay as it is."""
    directory = tmp_path / "outer" / "inner"
    directory.mkdir(parents=True)
    (tmp_path / "outer" / "precious").write_text("precious")
    return directory


def write(tmp_path, content):
    file = tmp_path / "planner.tar"
    file.write_bytes(content)
    return file


def tree(directory):
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def refused(tmp_path, place, content, problem, limits=WIDE):
    with pytest.raises(CheckpointError, match=f"planner.tar cannot be unpacked: .*{problem}"):
        unpack(write(tmp_path, content), place, limits)
    outside = [name for name in tree(tmp_path) if not name.startswith("outer/inner")]
    assert outside == ["outer", "outer/precious", "planner.tar"]
    assert (tmp_path / "outer" / "precious").read_text() == "precious"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_files_and_directories_are_unpacked(pack, tmp_path, place):
    content = tar_of(
        entry("params", kind=tarfile.DIRTYPE),
        entry("params/_METADATA", b"{}"),
        entry("params/d/" + "x" * 200, os.urandom(3_000_000)),
        entry("./assets/ü/empty"),
    )
    unpack(write(tmp_path, pack(content)), place)
    files = [name for name in tree(place) if (place / name).is_file()]
    assert files == ["assets/ü/empty", "params/_METADATA", "params/d/" + "x" * 200]
    assert (place / "params/_METADATA").read_bytes() == b"{}"
    assert (place / "params/d" / ("x" * 200)).stat().st_size == 3_000_000
    assert not (place / "params/_METADATA").stat().st_mode & 0o111


@pytest.mark.parametrize(
    "name",
    ["../escaped", "a/../../escaped", "/escaped", "//escaped", "a/..", "..", "./../escaped"],
)
def test_a_name_that_leads_outside_is_refused(name, tmp_path, place):
    refused(tmp_path, place, tar_of(entry(name, b"x")), "would be written outside")
    refused(tmp_path, place, tar_of(entry(name, kind=tarfile.DIRTYPE)), "written outside")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.FIFOTYPE, "a device or a pipe"),
        (tarfile.CHRTYPE, "a device or a pipe"),
        (tarfile.BLKTYPE, "a device or a pipe"),
    ],
)
def test_only_regular_files_and_directories_are_taken(kind, what, tmp_path, place):
    content = tar_of(entry("a", kind=kind, link="."), entry("a/escaped", b"x"))
    refused(tmp_path, place, content, f"a is {what}, not a regular file")
    assert tree(place) == []


def test_a_chain_of_links_longer_than_a_path_may_be_goes_nowhere(tmp_path, place):
    """CVE-2025-4517: a link that the standard library could not follow to its end."""
    entries, step, long = [], "abcdefghijklmnop", "d" * 247
    path = ""
    for letter in step:
        entries.append(entry(f"{path}{long}", kind=tarfile.DIRTYPE))
        entries.append(entry(f"{path}{letter}", kind=tarfile.SYMTYPE, link=long))
        path += f"{long}/"
    link = "/".join(step) + "/" + "l" * 254
    entries.append(entry(link, kind=tarfile.SYMTYPE, link="../" * len(step)))
    entries.append(entry("escape", kind=tarfile.SYMTYPE, link=f"{link}/../.."))
    entries.append(entry("escape/precious", b"overwritten"))
    refused(tmp_path, place, tar_of(*entries), "a is a link")


def test_a_directory_is_no_way_through_a_link_that_was_there(tmp_path, place):
    (place / "params").symlink_to(tmp_path / "outer")
    content = tar_of(entry("params", b"x"))
    refused(tmp_path, place, content, "params is in it twice")


def test_a_name_that_is_there_twice_is_refused(tmp_path, place):
    refused(tmp_path, place, tar_of(entry("a", b"1"), entry("a", b"2")), "a is in it twice")


@pytest.mark.parametrize("first", ["a", "a/b/c"])
def test_a_file_is_no_directory_as_well(first, tmp_path, place):
    second = {"a": "a/b", "a/b/c": "a/b"}[first]
    content = tar_of(entry(first, b"1"), entry(second, b"2"))
    refused(tmp_path, place, content, "is in it twice|is in it as a file and as a directory")


@pytest.mark.parametrize("name", ["x" * 256, "/".join(["d" * 100] * 12)], ids=["component", "path"])
def test_a_name_that_no_file_can_have_is_refused(name, tmp_path, place):
    refused(tmp_path, place, tar_of(entry(name, b"x")), "is not a name that a file can have")


def test_control_characters_of_a_name_do_not_reach_the_message(tmp_path, place):
    refused(tmp_path, place, tar_of(entry("../\x1b[31m", b"")), r"\.\./\\x1b\[31m would be")


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_size_beyond_the_limit_is_refused_before_it_is_written(compress, tmp_path, place):
    limits = ArchiveLimits(nbytes=100_000)
    content = tar_of(entry("a", bytes(60_000)), entry("b", bytes(60_000)))
    refused(tmp_path, place, compress(content), "b would make it larger than 100,000", limits)
    assert tree(place) == ["a"]
    terabytes = tar_of(entry("a", b"x" * 512, size=5 * 2**40))
    refused(tmp_path, place, compress(terabytes), "a would make it larger than", limits)


def test_the_disks_free_space_is_a_limit_too(tmp_path, place, monkeypatch):
    usage = archive.shutil.disk_usage(place)._replace(free=1000)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: usage)
    content = tar_of(entry("a", bytes(2000)))
    refused(tmp_path, place, content, "a would make it larger than 1,000 bytes")


def test_a_sparse_file_of_a_terabyte_is_refused(tmp_path, place):
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "hole",
        "GNU.sparse.realsize": str(2**40),
    }
    content = tar_of(entry("hole", b"0\n" + bytes(510), pax=pax))
    refused(tmp_path, place, content, "hole is a sparse file|larger than")
    assert tree(place) == []


def test_a_bomb_of_empty_files_is_refused(tmp_path, place):
    content = gzip.compress(tar_of(*(entry(f"{i}") for i in range(50))))
    refused(tmp_path, place, content, "more than 40 files", ArchiveLimits(files=40))
    assert len(tree(place)) == 40


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_not_read(kind, tmp_path, place):
    bomb = entry("a", b"", kind=kind, size=2**31)
    content = gzip.compress(tar_of(bomb) + bytes(2**22))
    refused(tmp_path, place, content, "one of its headers is longer than a name can be")


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_archive_that_was_cut_off_is_refused(compress, tmp_path, place):
    content = compress(tar_of(entry("a", os.urandom(50_000))))
    file = write(tmp_path, content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cannot be unpacked"):
        unpack(file, place)


def test_arbitrary_bytes_are_unpacked_or_refused_and_stay_inside(tmp_path, place):
    generator = random.Random(7)
    whole = tar_of(
        entry("a/b", bytes(700)), entry("a/" + "n" * 150, b"xyz", pax={"comment": "ü" * 90})
    )
    for _ in range(int(os.environ.get("FUZZ_EXAMPLES", "300"))):
        content = bytearray(whole)
        for _ in range(generator.randint(1, 6)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        target = place / str(generator.random())
        target.mkdir()
        file = write(tmp_path, bytes(content))
        with contextlib.suppress(CheckpointError):
            unpack(file, target, ArchiveLimits(nbytes=2**20))
    outside = [name for name in tree(tmp_path) if not name.startswith("outer/inner")]
    assert outside == ["outer", "outer/precious", "planner.tar"]
