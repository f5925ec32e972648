import benchmark
import pytest
from bench import common
from bench_inputs import write_cora


@pytest.mark.torch
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "benchmark: expected one of sweep, layer, train, kernels, reproduce, got nothing"),
        (["layers"], "one of sweep, layer, train, kernels, reproduce, got layers"),
        (["layer", "--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["layer", "--only", "Cora, GAT 9x9"], "only: expected part of one of arxiv-like"),
        (["layer", "--json", "layer.png"], "json: expected a file that ends in .json"),
        (["layer", "--json", "bad.npz/layer.json"], "out: expected a folder to write to"),
        (["layer", "--data-dir", "data"], "cora.npz: expected a graph as .npz"),
        (["layer", "--smal"], "--smal"),
        (["reproduce", "--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["reproduce", "--num-runs", "0"], "num_runs: expected at least 1, got 0"),
        (["train", "--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["train", "--data-dir", "nowhere"], "cora.npz: expected a graph as .npz"),
        (["train", "--data-dir", "cora", "--json", "bad.npz/train.json"], "out: expected a folder"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npz").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "cora").mkdir()
    write_cora(tmp_path / "cora")
    (tmp_path / "data" / "cora.npz").write_text("no graph")
    with pytest.raises(SystemExit) as stop:
        benchmark.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["layer", "train"])
def test_torch_being_absent_is_one_line(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(SystemExit) as stop:
        benchmark.main([name])
    assert stop.value.code == 2
    assert "torch: expected to be installed" in capsys.readouterr().err
