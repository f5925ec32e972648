"""Programs are kept and found; where they cannot be, that is one line and no failure."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gat_jax.runtime import compile_cache

PROGRAM = """
import jax, jax.numpy as jnp
from gat_jax.runtime import compile_cache
compile_cache.MIN_SECONDS = 0.0
print(compile_cache.use_compile_cache({wanted}))
counted = []
jax.monitoring.register_event_listener(lambda name, **_: counted.append(name))
print(jax.jit(lambda x: jnp.sin(x) + 1)(1.0))
print(any("cache_hits" in name for name in counted))
"""


def run(folder: Path, wanted: bool = True, **environment: str) -> list[str]:
    """What a process prints: why nothing is kept, a number, and whether a program was found."""
    usual = {"XDG_CACHE_HOME": str(folder), "JAX_COMPILATION_CACHE_DIR": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(wanted=wanted)],
        env={**os.environ, **usual, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_program_is_compiled_once_and_a_broken_entry_again(tmp_path):
    first = run(tmp_path)
    assert (first[0], first[2]) == ("None", "False")
    assert run(tmp_path) == ["None", first[1], "True"]
    (folder,) = (tmp_path / "gat_jax").iterdir()
    assert folder.name.startswith("compiled-")
    for file in folder.glob("*-cache"):
        file.write_bytes(file.read_bytes()[:100])  # as a process that is killed leaves it
    assert run(tmp_path)[:2] == first[:2]


def test_the_cache_can_be_switched_off_and_put_elsewhere(tmp_path):
    usual = tmp_path / "usual"
    assert run(usual, wanted=False)[0] == "None"
    assert run(usual, **{compile_cache.VARIABLE: "off"})[0] == "None"
    run(usual, **{compile_cache.VARIABLE: str(tmp_path / "here")})
    run(usual, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "there"))
    assert not usual.exists()
    assert list((tmp_path / "here").iterdir())
    assert list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("place", ["file/below", "null\0"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    environment = {compile_cache.VARIABLE: f"{tmp_path}/{place}"}
    monkeypatch.setattr(compile_cache.os, "environ", environment)
    try:
        message = compile_cache.use_compile_cache()
        is_on = jax.config.jax_enable_compilation_cache  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not is_on
    assert message is not None
    assert message.startswith("compiled programs are not kept in ")
    assert "\n" not in message
