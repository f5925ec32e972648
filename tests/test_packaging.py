"""What a wheel holds: every file of the package."""

from pathlib import Path

import setuptools

ROOT = Path(__file__).parents[1]


def test_a_wheel_holds_every_file_of_the_package(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = setuptools.Distribution({"script_name": "setup.py"})  # which need not exist
    distribution.parse_config_files(["setup.cfg"])
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    folder = Path(build.build_lib)
    packed = {Path(x).relative_to(folder) for x in build.get_outputs(include_bytecode=False)}
    files = {x.relative_to(ROOT) for x in ROOT.glob("gat_jax/**/*") if x.is_file()}
    assert packed == {x for x in files if "__pycache__" not in x.parts}
