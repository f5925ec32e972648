"""Files of weights: what is read out of them, and what is refused in one line and never run."""

import collections
import io
import json
import os
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from gat_jax.diagnosis.weights import files
from gat_jax.runtime import devices

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)
STATE = {"conv1.lin.weight": WEIGHT, "conv1.bias": WEIGHT[0], "norm.num_batches": np.int64(7)}


def refuses(path, match):
    with pytest.raises(ValueError, match=match) as error:
        files.read_arrays(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert "\x1b" not in text


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        assert arrays[key].shape == np.shape(array)
        np.testing.assert_array_equal(arrays[key], array)


def written(tmp_path, suffix, state):
    path = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(path, **state)
    elif suffix == ".safetensors":
        safetensors.numpy.save_file({key: np.asarray(x) for key, x in state.items()}, path)
    else:
        import torch

        torch.save({key: torch.as_tensor(np.asarray(x)) for key, x in state.items()}, path)
    return path


TORCH = pytest.param(".pt", marks=pytest.mark.torch)
every_format = pytest.mark.parametrize("suffix", [".npz", ".safetensors", TORCH])


# --- what is read ---------------------------------------------------------------------------------


@every_format
def test_read_arrays_gives_back_what_was_saved(tmp_path, suffix):
    arrays = files.read_arrays(written(tmp_path, suffix, STATE))
    assert_same({key: arrays[key] for key in STATE}, STATE)
    assert len(arrays) == len(STATE)
    assert {str(x.dtype) for x in arrays.values()} == {"float32", "int64"}


@every_format
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_read_arrays_makes_floating_numbers_float32(tmp_path, suffix, dtype):
    stored = WEIGHT.astype(dtype)
    arrays = files.read_arrays(written(tmp_path, suffix, {"a": stored}))
    assert arrays["a"].dtype == np.float32
    np.testing.assert_array_equal(arrays["a"], stored.astype(np.float32))


def test_read_arrays_reads_bfloat16_of_safetensors_exactly(tmp_path):
    stored = np.array([1.0, -2.5, 3.0e38, 1e-40, 0.0]).astype(ml_dtypes.bfloat16)
    path = written(tmp_path, ".safetensors", {"a": stored})
    np.testing.assert_array_equal(files.read_arrays(path)["a"], stored.astype(np.float32))


@pytest.mark.torch
def test_read_arrays_reads_bfloat16_of_torch_exactly(tmp_path):
    import torch

    values = np.array([1.0, -2.5, 3.0e38, 1e-40, 0.0]).astype(ml_dtypes.bfloat16)
    tensor = torch.tensor(values.astype(np.float32)).bfloat16()
    torch.save({"a": torch.nn.Parameter(tensor)}, tmp_path / "w.bin")
    arrays = files.read_arrays(tmp_path / "w.bin")
    np.testing.assert_array_equal(arrays["a"], values.astype(np.float32))


@pytest.mark.torch
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("container", files.CONTAINERS)
def test_read_arrays_takes_the_weights_out_of_a_checkpoint(tmp_path, container, is_zip):
    import torch

    state = collections.OrderedDict(
        (f"module._orig_mod.{key}", torch.as_tensor(np.asarray(x))) for key, x in STATE.items()
    )
    other = {"optimizer": {"state": {0: torch.ones(3)}, "groups": [{"lr": 0.1}]}, "epoch": 3}
    path = tmp_path / "w.pth"
    torch.save({**other, container: state}, path, _use_new_zipfile_serialization=is_zip)
    assert_same(files.read_arrays(path), STATE)


def test_flattened_joins_the_names_of_a_tree_by_dots():
    pair = collections.namedtuple("pair", ["kernel", "bias"])(WEIGHT, None)
    tree = {"params": {"params": {"layers": [pair, {"a": WEIGHT}]}}, "batch_stats": {"b": WEIGHT}}
    assert list(files.flattened(tree)) == ["layers.0.kernel", "layers.1.a"]


def test_flattened_parts_names_at_slashes_and_drops_what_wrappers_add():
    arrays = {"params/conv1/kernel": WEIGHT, "params/_orig_mod.conv2/kernel": WEIGHT}
    assert list(files.flattened(arrays)) == ["conv1.kernel", "conv2.kernel"]


def test_flattened_keeps_a_prefix_that_some_keys_lack():
    arrays = {"module.weight": WEIGHT, "bias": WEIGHT}
    assert list(files.flattened(arrays)) == ["module.weight", "bias"]


def test_flattened_takes_settings_called_params_for_no_weights():
    assert list(files.flattened({"params": {"lr": 0.1}, "a": WEIGHT})) == ["a"]


def test_flattened_ends_on_trees_that_hold_themselves():
    endless = {"a": WEIGHT}
    endless["model"] = endless
    with pytest.raises(ValueError, match="dictionaries of at most 32 levels, got more"):
        files.flattened(endless)
    doubled = [1]
    for _ in range(30):  # a billion numbers in thirty lists
        doubled = [doubled, doubled]
    with pytest.raises(ValueError, match="expected at most 1,000,000 entries"):
        files.flattened({"a": doubled})


def test_flattened_refuses_two_arrays_of_one_key():
    with pytest.raises(ValueError, match=r"weights: expected each key once, got 'a\.b' twice"):
        files.flattened({"a.b": WEIGHT, "a": {"b": WEIGHT}})


# --- what is no file of weights -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", TORCH])
def test_what_is_no_file_of_weights_is_told_apart(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    wanted = rf"expected weights as \{suffix}, got "
    refuses(path, wanted + "no such file or directory")
    for content in (b"", b"hello", b"\xff" * 1000, b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        refuses(path, wanted)
    path.unlink()
    path.mkdir()
    refuses(path, wanted + "a directory")
    path.rmdir()
    os.mkfifo(path)
    refuses(path, wanted + "no regular file")


@every_format
def test_files_that_are_cut_off_are_refused(tmp_path, suffix):
    path = written(tmp_path, suffix, STATE)
    data = path.read_bytes()
    for size in (len(data) // 4, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        refuses(path, "expected weights as")


def test_other_suffixes_are_refused(tmp_path):
    refuses(tmp_path / "w.pkl", r"expected weights in one of \.safetensors, .*, got '\.pkl'")


def test_a_file_without_arrays_is_refused(tmp_path):
    refuses(written(tmp_path, ".npz", {"a": np.array("text")}), "expected arrays, got none")


# --- numbers --------------------------------------------------------------------------------------


@every_format
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"conv1\.a: expected finite numbers, got nan at \[1, 0\]"),
        (-np.inf, r"conv1\.a: expected finite numbers, got -inf at \[1, 0\]"),
        (1e300, r"conv1\.a: expected numbers that float32 holds, got 1e\+300"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_key(tmp_path, suffix, value, message):
    bad = np.ones((2, 2))
    bad[1, 0] = value
    refuses(written(tmp_path, suffix, {"conv1.a": bad}), message)


def test_complex_numbers_are_refused(tmp_path):
    path = written(tmp_path, ".npz", {"a": np.ones(2, complex)})
    refuses(path, "a: expected real numbers, got dtype complex128")


def test_keys_are_shown_escaped(tmp_path):
    path = written(tmp_path, ".safetensors", {"\x1b[31m\n" + "x" * 200: np.full(2, np.nan)})
    refuses(path, r"\\x1b\[31m\\nx{80,90}: expected finite numbers")


# --- claims ---------------------------------------------------------------------------------------


def safetensors_header(entry, data=b""):
    header = json.dumps({"a": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**62) + b"{}",
        safetensors_header({"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}),
        safetensors_header({"dtype": "F32", "shape": [2**30], "data_offsets": [0, 4]}, bytes(4)),
        safetensors_header({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]}),
        safetensors_header({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, bytes(4)),
        safetensors_header({"dtype": "O", "shape": [1], "data_offsets": [0, 4]}, bytes(4)),
        struct.pack("<Q", 10**5) + b"[" * 10**5,
    ],
)
def test_claims_of_a_safetensors_header_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    refuses(path, r"expected weights as \.safetensors, got ")


def test_a_dtype_of_safetensors_that_numpy_lacks_is_refused(tmp_path):
    entry = {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors_header(entry, bytes(4)))
    refuses(path, "got 'a' of F8_E4M3, which is not read")


def test_claims_of_an_npz_header_are_refused(tmp_path):
    path = tmp_path / "w.npz"
    text = repr({"descr": "<f4", "fortran_order": False, "shape": (2**29,)}).encode() + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
        archive.writestr("conv1/a.npy", header + bytes(8))
    refuses(path, r"got 8 bytes for 'conv1/a', whose shape \(536870912,\) needs 2147483648")


def test_objects_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{}, None], object))
    refuses(tmp_path / "w.npz", "'a' with Python objects, which are not read")


def test_files_over_a_quarter_of_the_memory_are_refused(tmp_path, monkeypatch):
    path = written(tmp_path, ".safetensors", STATE)
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * 10)
    refuses(path, "the file: expected at most .* GiB, a quarter of the memory")


@pytest.mark.torch
def test_a_view_that_claims_more_numbers_than_it_has_is_refused(tmp_path):
    import torch

    torch.save({"a": torch.ones(1).expand(2**20, 2**20)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 10_000
    refuses(tmp_path / "w.pt", "a: expected at most .* GiB, a quarter of the memory, got 4.1e")


@pytest.mark.torch
def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path, ".pt", {"a": np.zeros(100_000, np.float32)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * 200_000)
    refuses(path, "what it unpacks to: expected at most")


# --- pickles --------------------------------------------------------------------------------------


class Opens:
    """A pickle of it creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def plain_pickle(value, protocol):
    return pickle.dumps(value, protocol=protocol)


def zipped_pickle(value, protocol):
    """What `torch.save` writes of it, without the checks of `torch.save`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=protocol))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return buffer.getvalue()


@pytest.mark.torch
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("make", [plain_pickle, zipped_pickle])
@pytest.mark.parametrize("suffix", files.TORCH_SUFFIXES)
def test_a_pickle_posing_as_weights_runs_nothing(tmp_path, suffix, make, protocol):
    trap, path = tmp_path / "trap", tmp_path / f"w{suffix}"
    path.write_bytes(make({"conv1.bias": Opens(trap)}, protocol))
    refuses(path, r"expected weights as .* which is not run; torch\.save\(model\.state_dict\(\)")
    assert not trap.exists()
    pickle.loads(pickle.dumps(Opens(trap))).close()  # it is a trap
    assert trap.exists()


@pytest.mark.torch
def test_a_whole_module_is_refused_by_name(tmp_path):
    import torch

    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    refuses(
        tmp_path / "w.pt",
        r"got a pickle that names torch\.nn\.modules\.linear\.Linear, which is not run; "
        r"torch\.save\(model\.state_dict\(\), PATH\) writes",
    )


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_compiled_module_is_refused(tmp_path):
    import torch

    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pt")
    refuses(tmp_path / "w.pt", "got a file that is more than tensors, which is not run")


@pytest.mark.torch
def test_tensors_of_unusual_kinds_are_refused(tmp_path):
    import torch

    path = tmp_path / "w.pt"
    for tensor, kind in (
        (torch.eye(2).to_sparse(), "sparse_coo on cpu"),
        (torch.ones(2, device="meta"), "strided on meta"),
    ):
        torch.save({"a": tensor}, path)
        refuses(path, f"a: expected a dense tensor on the CPU, got torch.{kind}")


def test_without_torch_its_files_are_refused_and_others_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"PK")
    refuses(tmp_path / "w.pt", "got no torch to read it with; pip install torch, or save the")
    assert len(files.read_arrays(written(tmp_path, ".safetensors", STATE))) == 3
