"""Files that are no graph, or were one: each is one line that names the file."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from helpers import write_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax.graphs import archives, files
from gat_jax.runtime import devices


def refuses(path, match=None):
    with pytest.raises(ValueError, match=match) as error:
        files.read_npz(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "expected" in text
    assert "\n" not in text


@pytest.fixture
def path(tmp_path):
    write_graph(tmp_path / "g.npz")
    return tmp_path / "g.npz"


# --- what is no file ------------------------------------------------------------------------------


def test_what_is_no_archive_is_told_apart(tmp_path):
    path = tmp_path / "g.npz"
    refuses(path, "expected a graph as .npz, got no such file or directory")
    path.write_text("hello")
    refuses(path, "got another format")
    path.write_bytes(b"")
    refuses(path, "got an empty file")
    with path.open("wb") as file:
        np.save(file, np.eye(3))
    refuses(path, r"got a single array \(\.npy\); numpy\.savez writes several")
    path.unlink()
    path.mkdir()
    refuses(path, "got a directory")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "g.npz")
    refuses(tmp_path / "g.npz", "got no regular file")


def test_links_that_lead_nowhere_are_refused(tmp_path):
    for name, target in (
        ("gone.npz", "nowhere"),
        ("loop.npz", "loop.npz"),
        ("null.npz", "/dev/null"),
    ):
        (tmp_path / name).symlink_to(target)
        refuses(tmp_path / name, "expected a graph as .npz, got ")


def test_paths_that_the_system_refuses_are_one_line(tmp_path):
    refuses(tmp_path / ("x" * 300 + ".npz"), "got file name too long")
    refuses(tmp_path / "g\0.npz", "got .*null")


# --- what an archive claims -----------------------------------------------------------------------


def replace_member(path, member, data, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in members.items():
            new.writestr(name, data if name == member else content)


def npy(shape, kind="<i8", data=b"", version=1, text=None):
    """An array's header with any claim, and any bytes behind it."""
    if text is None:
        text = repr({"descr": kind, "fortran_order": False, "shape": shape})
    encoded = text.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(encoded))
    return b"\x93NUMPY" + bytes([version, 0]) + size + encoded + data


def set_in_headers(path, value, local, central):
    """Set a byte in all headers of a zip file."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        position = -1
        while (position := data.find(signature, position + 1)) >= 0:
            data[position + offset] = value
    path.write_bytes(data)


def test_an_encrypted_archive_is_refused(path):
    set_in_headers(path, 1, 6, 8)
    refuses(path, "is encrypted")


def test_an_unknown_compression_is_refused(path):
    set_in_headers(path, 97, 8, 10)
    refuses(path, "compression")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_archives_are_read(path, compression):
    plain = files.read_npz(path)
    replace_member(path, "", b"", compression)
    np.testing.assert_array_equal(files.read_npz(path).graph.nodes, plain.graph.nodes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy((2**33,)), r"0 bytes for 'senders', whose shape \(8589934592,\) needs 68719476736"),
        (npy((2**40, 2**40)), "0 bytes for 'senders', whose shape"),
        (npy((-1,)), r"'senders' of shape \(-1,\)"),
        (npy((2,), data=bytes(8)), "8 bytes for 'senders', whose shape .* needs 16"),
        (npy((1,), data=bytes(16)), "16 bytes for 'senders', whose shape .* needs 8"),
        (npy((1,), "|O", b"\x80\x04N."), "'senders' with Python objects, which are not read"),
        (npy((1,), "|V8", bytes(8)), "'senders' of dtype"),
        (npy((), "no dtype"), "expected a graph as .npz, got "),
        (npy((), text="{'descr': '<i8'"), "expected a graph as .npz, got "),
        (npy((), text="__import__('os').abort()"), "expected a graph as .npz, got "),
        (npy((), text="[" * 5000), "expected a graph as .npz, got "),
        (npy((), text=" " * 20_000), "expected a graph as .npz, got "),
        (npy((4,), data=bytes(32), version=2), None),
        (npy((4,), data=bytes(32), version=3), "'senders' in version"),
        (npy((4,), data=bytes(32), version=9), "expected a graph as .npz, got "),
        (b"", "expected a graph as .npz, got "),
        (b"\x93NUMPY", "expected a graph as .npz, got "),
        (b"hello, world", "expected a graph as .npz, got "),
    ],
)
def test_an_array_that_claims_what_is_not_there_is_refused(path, data, message):
    replace_member(path, "senders.npy", data)
    if message is None:
        assert files.read_npz(path).graph.senders.tolist() == [0] * 4
    else:
        refuses(path, message)


def test_a_small_file_of_many_zeros_takes_no_memory(path, monkeypatch):
    big = io.BytesIO()
    np.save(big, np.zeros(2**20, np.int64))
    replace_member(path, "senders.npy", big.getvalue(), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(devices, "host_memory", lambda: 2**24)
    refuses(path, r"got 0\.00781 GiB of arrays, over a quarter of the memory")


def test_an_array_that_stands_twice_is_refused(path):
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("senders.npy", npy((4,), data=bytes(32)))
    refuses(path, "got two arrays 'senders'")


def test_arrays_that_are_not_asked_for_are_not_looked_at(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.npy", b"damaged")
    assert list(archives.read_arrays(path, ["labels"])) == ["labels"]
    found = archives.read_arrays(path, ["labels"], optional=["labelled", "absent"])
    assert list(found) == ["labels", "labelled"]


def test_text_that_the_system_words_over_several_lines_is_one(path, monkeypatch):
    def fail(*_):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(archives, "_read", fail)
    refuses(path, "got first$")
    monkeypatch.setattr(archives, "_read", lambda *_: {}[0])
    refuses(path, "got 0$")


# --- damage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a graph's file, plain and compressed."""
    path = tmp_path_factory.mktemp("graphs") / "g.npz"
    write_graph(path)
    plain = path.read_bytes()
    replace_member(path, "", b"", zipfile.ZIP_DEFLATED)
    return plain, path.read_bytes()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    st.floats(0.5, 1.5),
)
def test_a_damaged_file_is_read_or_refused_in_one_line(
    contents, tmp_path_factory, is_deflated, hits, length
):
    data = bytearray(contents[is_deflated])
    for share, value in hits:
        data[min(int(share * len(data)), len(data) - 1)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(data[: int(length * len(data))])
    try:
        found = files.read_npz(path)
    except ValueError as error:
        found = str(error)
    if isinstance(found, str):
        assert found.startswith(f"{path}: ")
        assert "\n" not in found
    else:
        assert len(found.labels) == len(found.graph.nodes)
