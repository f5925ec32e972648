"""The machine: what it is taken to be where it does not say, and where numbers come from."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import pytest

from gat_jax.runtime import devices

SETUP = "[metadata]\nname = gat_jax\nversion = 7.8.9\n"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of the package with one commit."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = (tmp_path / "checkout").resolve()
    root.mkdir()
    (root / "setup.cfg").write_text(SETUP)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def hide_metadata(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)


def test_provenance_says_versions_device_platform_and_commit():
    found = devices.provenance("pytest")
    assert found["version_jax"] == jax.__version__
    assert found["version_pytest"] == pytest.__version__
    assert found["version_python"] == ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version_gat_jax"])
    assert set(found) >= {
        *("version_jaxlib", "version_numpy", "version_scipy", "platform", "commit", "cores"),
    }
    assert found["device"] == devices.device_name()
    assert found["backend"] == jax.default_backend()
    assert all(isinstance(value, str) and value for value in found.values())


def test_provenance_without_metadata_reads_its_own_version_from_the_checkout(monkeypatch):
    expected = devices.provenance()["version_gat_jax"]
    hide_metadata(monkeypatch)
    found = devices.provenance()
    assert found["version_gat_jax"] == expected != "unknown"
    assert found["version_jax"] == "unknown"


def test_own_version_is_the_checkouts_and_not_that_of_another_installation(checkout, tmp_path):
    assert devices.own_version(checkout) == "7.8.9"
    assert devices.own_version(tmp_path) == devices.package_version("gat_jax")


@pytest.mark.parametrize("content", ["[metadata\n", "[metadata]\nname = other\nversion = 1\n"])
def test_own_version_is_unknown_without_metadata_and_checkout(tmp_path, monkeypatch, content):
    hide_metadata(monkeypatch)
    (tmp_path / "setup.cfg").write_text(content)
    assert devices.own_version(tmp_path) == "unknown"


def test_version_is_unknown_where_metadata_lacks_the_field(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: None)
    assert devices.package_version("jax") == "unknown"


def test_commit_is_that_of_the_checkout(checkout):
    assert devices._commit(checkout) == git(checkout, "rev-parse", "HEAD")


def test_commit_of_another_repository_is_not_taken_for_ours(checkout):
    """An environment inside a project's repository, and a copy of the package inside it."""
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert devices._commit(inside) == "unknown"
    (inside / "setup.cfg").write_text(SETUP)
    assert devices._commit(inside) == "unknown"


def test_commit_does_not_follow_the_variables_of_a_hook(checkout, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    expected = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    assert devices._commit(checkout) == expected


def test_commit_is_read_without_git_and_unknown_before_the_first(checkout, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "setup.cfg").write_text(SETUP)
    git(empty, "init", "-q")
    assert devices._commit(empty) == "unknown"
    expected = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices._commit(checkout) == expected


def test_commit_is_that_of_a_packed_branch_a_detached_head_and_another_work_tree(checkout):
    expected = git(checkout, "rev-parse", "HEAD")
    git(checkout, "worktree", "add", "-q", "-b", "side", str(checkout.parent / "side"))
    git(checkout, "pack-refs", "--all")
    assert not list((checkout / ".git" / "refs" / "heads").iterdir())
    assert devices._commit(checkout) == expected
    assert devices._commit(checkout.parent / "side") == expected
    git(checkout, "checkout", "-q", "--detach")
    assert devices._commit(checkout) == expected


@pytest.mark.parametrize("head", [b"", b"ref: refs/heads/\n", b"\xff\xfe", b"0123", b"ref: /etc"])
def test_commit_is_unknown_where_git_s_files_are_damaged(checkout, head):
    (checkout / ".git" / "HEAD").write_bytes(head)
    assert devices._commit(checkout) == "unknown"


def test_device_is_unknown_where_no_backend_starts(monkeypatch):
    def fail():
        raise RuntimeError("no backend")

    monkeypatch.setattr(jax, "local_devices", fail)
    found = devices.provenance()
    assert {found[key] for key in ("backend", "device", "devices", "jax_platform")} == {"unknown"}
    assert found["version_jax"] == jax.__version__


def test_device_of_a_cpu_without_cpuinfo_is_named_by_the_platform(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(devices.platform, "processor", lambda: "")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    if jax.default_backend() == "cpu":
        assert devices.device_name() == "arm64"
    else:
        assert devices.device_name() == jax.local_devices()[0].device_kind


def test_flags_are_tried_in_another_process_once(monkeypatch):
    tried = []

    def run(*_, **__):
        tried.append(os.environ["XLA_FLAGS"])
        told = b"F parse_flags.cc:1] Unknown flag in XLA_FLAGS: --b" if "--b" in tried else b""
        return subprocess.CompletedProcess([], len(told), b"", told)

    monkeypatch.setattr(devices.subprocess, "run", run)
    for flags in ("", "--a", "--a"):
        monkeypatch.setenv("XLA_FLAGS", flags)
        devices.check_backend()
    assert tried == ["--a"]
    monkeypatch.setenv("XLA_FLAGS", "--b")
    for _ in range(2):  # what was refused stays refused
        with pytest.raises(ValueError, match=r"flags that XLA knows, got --b \(Unknown flag .*--b"):
            devices.check_backend()
    assert tried == ["--a", "--b", "--b"]


def test_cores_are_counted_where_the_system_knows_no_affinity(monkeypatch):
    assert devices.num_cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert devices.num_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert devices.num_cores() == 1


def test_num_cores_are_those_this_process_may_use():
    assert devices.num_cores() == len(os.sched_getaffinity(0))


def test_num_cores_falls_back_to_those_of_the_machine(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert devices.num_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert devices.num_cores() == 1
    devices.use_cores(None)  # JAX may be in use: then nothing changes


def test_total_memory_is_that_of_the_machine():
    pages = os.sysconf("SC_PHYS_PAGES")
    assert devices.total_memory() == pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("hidden", ["sysconf", "name", "number"])
def test_total_memory_falls_back_to_an_assumption(monkeypatch, hidden):
    if hidden == "sysconf":
        monkeypatch.delattr(os, "sysconf")  # as on Windows
    elif hidden == "name":
        monkeypatch.delitem(os.sysconf_names, "SC_PHYS_PAGES")
    else:
        monkeypatch.setattr(os, "sysconf", lambda name: -1)
    assert devices.total_memory() == devices.ASSUMED_MEMORY
