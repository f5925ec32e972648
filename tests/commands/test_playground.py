"""`gat-jax playground`: writes one file, and refuses in one line what has no room on it."""

import pytest

from gat_jax.commands import playground


def test_the_page_is_written_and_said_so(tmp_path, capsys):
    out = tmp_path / "new" / "page.html"
    assert playground.main(["--out", str(out)]) == 0
    assert capsys.readouterr().out == f"Written to {out}: open it in a browser\n"
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--graph", "karate_club"], "graph: expected 1 to 12 nodes, got 34"),
        (["--graph", "nothing"], "graph: expected tutorial, karate_club, les_miserables, a folder"),
        (["--out", "."], "out: expected the path of a file, got the folder ."),
    ],
)
def test_bad_input_is_one_line_and_code_2(argv, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        playground.main(argv)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())
