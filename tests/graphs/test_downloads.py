"""Downloads by name, from a server on this machine: hashes are held, everything else is a line."""

import gc
import hashlib
import http.server
import importlib.util
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.graphs import downloads
from gat_jax.runtime import compile_cache

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = {"a.txt": b"one", "b.txt": b"two"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server, the folder that it serves, and the paths that it was asked for."""
    folder, asked = tmp_path / "served", []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, format, *args):
            asked.append(self.path)

    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    monkeypatch.setitem(downloads.HASHES, "small", hashes)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", folder, asked
        running.shutdown()
        thread.join()
    with warnings.catch_warnings():  # pooch leaves connections open, which some later test would be
        warnings.simplefilter("ignore", ResourceWarning)  # told of as they are collected
        gc.collect()


def test_download_keeps_files_and_asks_once(server, tmp_path, capfd):
    address, _, asked = server
    found = graphs.download("small", base_url=address, folder=tmp_path / "kept")
    assert found == tmp_path / "kept"
    assert {path.name: path.read_bytes() for path in found.iterdir()} == FILES
    assert sorted(asked) == ["/a.txt", "/b.txt"]
    graphs.download("small", base_url="http://127.0.0.1:1/", folder=tmp_path / "kept")
    assert len(asked) == 2
    assert capfd.readouterr() == ("", "")


def test_download_keeps_files_in_the_users_cache_folder(server, monkeypatch, tmp_path):
    monkeypatch.setattr(compile_cache.sys, "platform", "linux")
    found = graphs.download("small", base_url=server[0])
    assert found == tmp_path / "caches" / "gat_jax" / "data" / "small"
    assert (found / "a.txt").read_bytes() == b"one"


def test_a_file_that_was_changed_is_downloaded_again(server, tmp_path):
    address, _, asked = server
    found = graphs.download("small", base_url=address, folder=str(tmp_path / "kept"))
    (found / "a.txt").write_bytes(b"cut")
    graphs.download("small", base_url=address, folder=tmp_path / "kept")
    assert (found / "a.txt").read_bytes() == b"one"
    assert asked.count("/a.txt") == 2


def refuses(match, name="small", **options):
    with pytest.raises(ValueError, match=match) as error:
        graphs.download(name, **options)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_another_file_is_refused_and_not_kept(server, tmp_path):
    address, folder, _ = server
    (folder / "b.txt").write_bytes(b"three")
    message = f"^{address}b.txt: expected a file with sha256:[0-9a-f]{{64}}, got a file with anoth"
    refuses(message, base_url=address, folder=tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["a.txt"]


def test_a_server_that_does_not_answer_is_one_line(server, tmp_path):
    address, folder, _ = server
    refuses("^http://127.0.0.1:1/a.txt: expected a file .*", base_url="http://127.0.0.1:1/")
    (folder / "a.txt").unlink()
    refuses(f"^{address}a.txt: expected a file .*, got 404 ", base_url=address)
    refuses("^nothing://a.txt: expected a file with ", base_url="nothing://")
    (tmp_path / "file").touch()
    refuses("expected a file with ", base_url=address, folder=tmp_path / "file" / "below")


def test_other_names_are_refused():
    refuses("^name: expected cora, got 'citeseer'$", "citeseer")
    refuses("^name: expected cora, got '../cora'$", "../cora")


def test_without_pooch_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    refuses(r"expected the extra `data` \(pip install 'gat_jax\[data\]'\), got no pooch", "cora")


def test_without_a_home_a_folder_is_asked_for(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(downloads, "cache_folder", no_home)
    refuses("^folder: expected one, got none for a user without a home$", "cora")


def test_the_hashes_are_those_of_the_files_at_hand():
    if not DATA.exists():
        print(f"{DATA} is absent: the hashes of raw Cora are not compared")
        return
    lines = (DATA / "SHA256SUMS").read_text().splitlines()
    known = {path: digest for digest, path in (line.split() for line in lines)}
    for files in downloads.HASHES.values():
        assert files == {name: known[f"planetoid/{name}"] for name in files}


def test_cora_is_downloaded_and_read(server, tmp_path):
    if not DATA.exists():
        print(f"{DATA} is absent: raw Cora is not served")
        return
    address, folder, _ = server
    for name in downloads.HASHES["cora"]:
        (folder / name).write_bytes((DATA / "planetoid" / name).read_bytes())
    task = graphs.load_task(graphs.download("cora", base_url=address, folder=tmp_path / "kept"))
    assert task.name == "cora"
    assert np.sum(task.splits.train) == 140
