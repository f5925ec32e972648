import json
import os
import re
from pathlib import Path

import pytest

from gat_jax.sweeps import SweepSpec, load_spec
from gat_jax.sweeps.spec import spec_from


def test_axes_are_those_of_the_grid_and_gain_where_it_is_given():
    names = ["graph", "layer", "heads", "channels", "initializer", "features", "slope"]
    assert list(SweepSpec().axes) == names
    assert SweepSpec(heads=(1, 2), gain=(2.0,)).axes["heads"] == (1, 2)
    assert list(SweepSpec(gain=(2.0,)).axes) == [*names, "gain"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 1}, "heads: expected a tuple of values, got 1"),
        ({"heads": ()}, "heads: expected at least one value, got none"),
        ({"slope": (1, 1.0)}, "slope: expected different values, got 1.0 twice"),
        ({"num_inits": 0}, "num_inits: expected at least 1, got 0"),
        ({"block_size": 0}, "block_size: expected at least 1, got 0"),
        ({"seed": 2**32}, "seed: expected 0 to 4294967295, got 4294967296"),
        ({"layer": ("gta",)}, "layer: expected one of gat, gatv2, gcn, got gta"),
        ({"keep": "all"}, "keep: expected one of summary, raw, got all"),
        ({"precision": 1.0}, "precision: expected between 0 and 1, got 1.0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_spec_of_no_sweep_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SweepSpec(**fields)


def test_a_spec_comes_back_from_what_json_makes_of_it():
    spec = SweepSpec(heads=(1, 2), slope=(0.5,), precision=0.1)
    assert spec_from(json.loads(json.dumps(vars(spec))), "here") == spec


def test_a_file_may_give_an_axis_one_value_without_a_list(tmp_path):
    file = tmp_path / "spec.toml"
    file.write_text('heads = [1, 2]\nslope = 1\nnum_inits = 300000\nmeasure = "collisions"\n')
    spec = SweepSpec(heads=(1, 2), slope=(1.0,), num_inits=300_000, measure="collisions")
    assert load_spec(file) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head = [1]", r"expected no key 'head' \(perhaps you meant heads\)"),
        ("xyz = 1", "expected no key 'xyz'"),
        ("seed = 1\nseed = 2", "expected each key once, got 'seed' again in line 2"),
        ('heads = ["1"]', "heads: expected int, got '1'"),
        ("num_inits = 1.5", "num_inits: expected int, got 1.5"),
        ("seed = true", "seed: expected int, got True"),
        ('layer = "gta"', "layer: expected one of gat, gatv2, gcn, got gta"),
        ("seed = ", "Invalid value"),
        ("heads = " + "[" * 3000 + "]" * 3000, "expected values, got lists of far too many levels"),
        ("seed = " + "9" * 6000, "expected TOML, got what cannot be read .Exceeds the limit"),
        ("seed = 0x" + "f" * 6000, "seed: expected 0 to 4294967295, got one of type int"),
        ("num_inits = 0x" + "f" * 6000, r"num_inits: expected less than 2\^63, got one of"),
        ("graph = 0x" + "f" * 6000, "graph: expected str, got one of type int"),
        ("slope = 0x" + "f" * 6000, "slope: expected a number, got a far larger one"),
        ('graph = ""', "graph: expected names that are valid text, got ''"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "spec.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"spec\.toml: .*{message}"):
        load_spec(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"graph = '\xfc'")
    (tmp_path / "large.toml").write_text("#" * 2**20 + "\n")
    os.mkfifo(tmp_path / "pipe.toml")  # to open it would wait
    for name, reason in (
        ("nothing.toml", "no such file or directory"),
        ("latin.toml", "'utf-8' codec can't decode .*"),
        ("large.toml", "one of 1,048,577 bytes, more than 1,048,576"),
        ("pipe.toml", "no regular file"),
        (".", "a directory"),
    ):
        with pytest.raises(ValueError, match=r"^spec: expected a readable file, got ") as error:
            load_spec(tmp_path / name)
        assert re.search(rf"\({reason}\)$", str(error.value))
    with pytest.raises(ValueError, match=r"got /dev/zero \(no regular file\)$"):
        load_spec(Path("/dev/zero"))
