"""Pickles of Planetoid's, and pickles that are none: nothing that one names is ever called."""

import collections
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax.graphs import pickles
from gat_jax.runtime import devices

MATRIX = scipy.sparse.csr_matrix(np.array([[0, 2.0, 0], [1, 0, 3]], np.float32))
TABLE = collections.defaultdict(list, {0: [1, 2], 1: [0], 2: [0]})
explore = settings(max_examples=200, deadline=None, derandomize=True)


def read(folder, data):
    path = folder / "ind.small.x"
    path.write_bytes(data)
    return pickles.read_pickle(path)


def refuses(folder, data, match=None):
    """One line that names the file."""
    with pytest.raises(ValueError, match=match) as error:
        read(folder, data)
    text = str(error.value)
    assert text.startswith(f"{folder / 'ind.small.x'}: expected a pickle of Planetoid's, got ")
    assert "\n" not in text
    assert len(text) < 300 + len(str(folder))


def python_2(name, value):
    """A pickle as Python 2 wrote it: old names, bytes as text."""
    return b"\x80\x02c" + name.encode().replace(b" ", b"\n") + b"\n" + value


def text_of(data):
    return b"T" + struct.pack("<i", len(data)) + data  # BINSTRING


def array_of_python_2(data, *, size, dtype=b"i4", order=b"<"):
    """The instructions for a vector."""
    start = python_2("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R")
    kind = b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R"
    kind += b"(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"J" + struct.pack("<i", size) + b"\x85"
    return start + b"(K\x01" + shape + kind + b"\x89" + text_of(data) + b"tb."


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("dtype", ["?", "i1", "<i4", ">i4", "u8", "f2", ">f4", "f8"])
def test_arrays_are_read_as_they_were(tmp_path, protocol, dtype):
    array = np.array([[0, 1, 1], [1, 0, 100]]).astype(dtype)
    for form in (array, np.asfortranarray(array), array[:0], array[0, 0, None]):
        found = read(tmp_path, pickle.dumps(form, protocol))
        np.testing.assert_array_equal(found, form)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert found.flags.writeable


def test_arrays_of_python_2_are_read(tmp_path):
    array = np.array([1, -1, 200], ">i4")
    data = array_of_python_2(array.tobytes(), size=3, order=b">")
    np.testing.assert_array_equal(read(tmp_path, data), array)


@pytest.mark.parametrize("protocol", [3, 4])
def test_matrices_and_dictionaries_are_read_as_they_were(tmp_path, protocol):
    found = read(tmp_path, pickle.dumps(MATRIX, protocol))
    np.testing.assert_array_equal(found.toarray(), MATRIX.toarray())
    found = read(tmp_path, pickle.dumps(TABLE, protocol))
    assert found == TABLE
    assert type(found) is dict


# --- what a pickle names --------------------------------------------------------------------------


class Hostile:
    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda path: Hostile(os.system, f"touch {path}"), "posix.system"),
        (
            lambda path: Hostile(eval, f"open({str(path)!r}, 'w').close()"),
            "(builtins|__builtin__).eval",
        ),
        (
            lambda path: Hostile(subprocess.check_call, ["touch", str(path)]),
            "(subprocess|commands).check_c",
        ),
        (lambda path: {0: [Hostile(os.mkdir, str(path))]}, "posix.mkdir"),
        (
            lambda path: np.array([Hostile(os.mkdir, str(path))], object),
            "(posix.mkdir|_codecs.encode)",
        ),
    ],
)
def test_a_hostile_pickle_creates_no_file(tmp_path, make, name, protocol):
    path = tmp_path / "created"
    data = pickle.dumps(make(path), protocol)
    refuses(tmp_path, data, match=f"got a reference to {name}.*, which is not read$")
    assert not path.exists()
    pickle.loads(data)  # as Python reads it: so it is hostile indeed
    assert path.exists()


@pytest.mark.parametrize("name", sorted(f"{module} {name}" for module, name in pickles.GLOBALS))
@pytest.mark.parametrize(
    "use", [b"", b")R", b")\x81", b"}b", b"N}(U\x01aK\x01u\x86b", b"K\x01\x85R"]
)
def test_names_that_are_let_through_do_nothing(tmp_path, name, use):
    before = {key: dict(vars(value)) for key, value in pickles.GLOBALS.items()}
    data = python_2(name, use + b".")
    if "defaultdict" in name and use in (b")R", b")\x81", b"K\x01\x85R"):
        assert read(tmp_path, data) == {}
    else:
        refuses(tmp_path, data)
    assert {key: dict(vars(value)) for key, value in pickles.GLOBALS.items()} == before


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("numpy.core.multiarray scalar", "numpy.core.multiarray.scalar"),
        ("numpy.core.multiarray _reconstruct.__globals__", "_reconstruct.__globals__"),
        ("collections defaultdict.__init__", "collections.defaultdict.__init__"),
        ("_codecs encode", "_codecs.encode"),
        ("__builtin__ getattr", "__builtin__.getattr"),
        ("copy_reg _reconstructor", "copy_reg._reconstructor"),
    ],
)
def test_names_beside_those_that_are_let_through_are_refused(tmp_path, name, shown):
    refuses(tmp_path, python_2(name, b"."), match=f"got a reference to .*{shown}, which")


def test_a_name_with_line_breaks_is_one_line(tmp_path):
    words = [b"\x8c" + bytes([len(x)]) + x for x in (b"o\n\x1b[31ms", b"sys\ntem")]
    refuses(tmp_path, b"\x80\x04" + b"".join(words) + b"\x93.", match=r"o\\n\\x1b\[31ms\.sys\\ntem")


# --- what a pickle claims -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "got an empty file$"),
        (b"hello", "got "),
        (b"\x80\x02", "got "),
        (b"\x80\x02.", "got "),
        (b"\x80\x02K\x05.", "got int in place of an array"),
        (b"\x80\x02].", "got list in place of an array"),
        (b"\x80\x02N}b.", "got "),
        (b"\x80\x02K\x01K\x01K\x01s.", "got "),
        (b"\x80\x02](e.", "got list"),
        (b"cos\nsystem\n.", r"got a reference to os\.system, w"),
        (b"(S'touch x'\nios\nsystem\n.", "got the instruction STRING"),
        (b"(ios\nsystem\n.", "got the instruction INST"),
        (b"\x80\x02\x82\x01.", "got the instruction EXT1"),
        (b"\x80\x02Pname\n.", "got the instruction PERSID"),
        (b"\x80\x04\x8f.", "got the instruction EMPTY_SET"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "got "),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "got a note 2147483647 in 9 bytes"),
        (b"\x80\x02T\xff\xff\xff\x7fabc.", "got expected 2147483647 bytes"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.", "got "),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "got "),
        (array_of_python_2(b"\0" * 12, size=4), r"got 12 bytes for an array of shape \(4,\) of i"),
        (array_of_python_2(b"\0" * 12, size=-3), r"got an array of shape \(-3,\)"),
        (array_of_python_2(b"\0" * 12, size=2**31 - 1), "got 12 bytes for an array of shape"),
        (array_of_python_2(b"\0" * 8, size=1, dtype=b"O8"), "got an array of dtype 'O8'"),
        (array_of_python_2(b"\0" * 8, size=1, dtype=b"V8"), "got an array of dtype 'V8'"),
        (array_of_python_2(b"\0" * 8, size=1, dtype=b"i4,i4"), "got an array of dtype"),
        (array_of_python_2(b"\0" * 4, size=1, order=b"x"), "got an array of byte order 'x'"),
    ],
)
def test_claims_are_compared_with_the_bytes(tmp_path, data, message):
    refuses(tmp_path, data, match=message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_shape": (2, 2)}, "got a?n?y?.*matrix: expected a sound sparse matrix"),
        ({"_shape": (2**30, 3)}, "got "),
        ({"_shape": (2**40, 3)}, "got a matrix of shape"),
        ({"_shape": (-2, 3)}, "got a matrix of shape"),
        ({"_shape": [2, 3]}, "got a matrix of shape"),
        ({"_shape": (2,)}, "got a matrix of shape"),
        ({"_shape": None}, "got a matrix of shape None"),
        ({"indices": np.array([1, 0, 9], np.int32)}, "got matrix: expected a sound sparse matrix"),
        ({"indices": np.array([1, 0, -1], np.int32)}, "got "),
        ({"indptr": np.array([0, 5, 3], np.int32)}, "got "),
        ({"indptr": np.array([0, 1], np.int32)}, "got "),
        ({"data": np.array([1.0], np.float32)}, "got "),
        ({"data": "text"}, "got an array without its numbers"),
        ({"data": {}}, "got an array without its numbers"),
    ],
)
def test_matrices_that_are_unsound_are_refused(tmp_path, changes, message):
    matrix = MATRIX.copy()
    vars(matrix).update(changes)
    refuses(tmp_path, pickle.dumps(matrix, 4), match=message)
    del matrix._shape
    refuses(tmp_path, pickle.dumps(matrix, 4), match="got a matrix without _shape")


def test_a_file_beyond_a_quarter_of_the_memory_is_refused(tmp_path, monkeypatch):
    data = pickle.dumps(np.zeros(1000), 4)
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * len(data))
    assert read(tmp_path, data).shape == (1000,)
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * len(data) - 4)
    refuses(tmp_path, data, match="got the file: expected at most .* GiB, a quarter of the memory")


def test_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "ind.small.x"
    for make, message in ((lambda: None, "no such file"), (path.mkdir, "a directory")):
        make()
        with pytest.raises(ValueError, match=f"^{path}: expected a pickle .*, got {message}"):
            pickles.read_pickle(path)


@pytest.mark.parametrize("value", [MATRIX, TABLE, MATRIX.toarray()], ids=["csr", "dict", "array"])
def test_a_pickle_that_is_cut_anywhere_is_refused(tmp_path, value):
    data = pickle.dumps(value, 3)
    for length in range(len(data)):
        refuses(tmp_path, data[:length])


@explore
@given(st.sampled_from([MATRIX, TABLE, MATRIX.toarray()]), st.data())
def test_a_pickle_with_any_bytes_changed_is_read_or_refused_in_a_line(
    tmp_path_factory, value, data
):
    folder = tmp_path_factory.getbasetemp()
    damaged = bytearray(pickle.dumps(value, 3))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        read(folder, bytes(damaged))
    except ValueError as error:
        assert str(error).startswith(f"{folder / 'ind.small.x'}: expected a pickle")  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
