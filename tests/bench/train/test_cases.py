import numpy as np
import pytest
from bench.train import cases
from bench_inputs import write_cora


def test_cora_without_its_split_is_one_line(tmp_path):
    write_cora(tmp_path)
    with np.load(tmp_path / "cora.npz") as data:
        kept = {name: array for name, array in data.items() if not name.endswith("_idx")}
    np.savez(tmp_path / "cora.npz", **kept)
    with pytest.raises(ValueError, match=r"cora.npz: expected splits, got none"):
        cases.load_task(tmp_path)
