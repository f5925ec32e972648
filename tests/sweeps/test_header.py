"""What a store says of itself: enough to be read anywhere, and refused in one line otherwise."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweep_runs import save_twins, signs_spec

from gat_jax.runtime.blocks import Blocks
from gat_jax.sweeps import SweepSpec, load_blocks, load_raw, prepare, records, run_sweep
from gat_jax.sweeps.header import check_enlarges, graph_id, header_from


@pytest.fixture(scope="module")
def stored() -> dict:
    """The header of a store as JSON has it."""
    return prepare(signs_spec(heads=(1, 2), precision=0.1)).header.to_json()


def test_a_header_comes_back_from_json(stored):
    header = prepare(signs_spec(heads=(1, 2), precision=0.1)).header
    assert header_from(json.loads(json.dumps(stored)), Path("here")) == header
    assert header_from({}, Path("here")) is None


def paths(value: object, path: tuple = ()) -> list[tuple]:
    """Where every value of some JSON stands."""
    items = value.items() if isinstance(value, dict) else ()
    below = [place for key, part in items for place in paths(part, (*path, key))]
    return ([path] if path else []) + below


def changed(stored: dict, path: tuple, value: object) -> dict:
    """A copy in which one value is another, or is not there."""
    copy = json.loads(json.dumps(stored))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copy


@pytest.mark.parametrize("value", [None, [], {}, "text", -1, 1.5, True, [[]], [None]], ids=str)
@pytest.mark.usefixtures("unchecked")
def test_a_field_that_is_missing_or_of_a_wrong_type_is_named(tmp_path, stored, value):
    for path in paths(stored):
        if value in ([], 1.5, "text") and path[-1] in ("gain", "precision", "device"):
            continue  # which may be so
        header = changed(stored, path, value)
        blocks = Blocks(tmp_path, schema=records.SCHEMA)
        blocks.set_header(header)
        refusal = refusal_of(lambda: load_blocks(tmp_path))
        if refusal is None:  # what is read is not what was written, but may be
            assert path[0] in ("graph_digests", "version_jax", "version_jaxlib"), path
        else:
            assert re.fullmatch("(store|heads): .*expected .*, got .*", refusal), path


def refusal_of(function: Callable[[], object]) -> str | None:
    """The message with which something is refused."""
    try:
        function()
    except ValueError as error:
        return str(error)
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.usefixtures("unchecked")
@given(st.data(), JSON)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_header_is_read_or_refused(stored, data, value):
    path = data.draw(st.sampled_from(paths(stored)))
    header = changed(stored, path, value)
    refusal = refusal_of(lambda: header_from(header, Path("here")))
    assert refusal is None or "expected" in refusal


# --- graphs -----------------------------------------------------------------------------------


def test_a_built_in_graph_is_known_by_its_name_and_a_file_by_its_contents():
    assert graph_id("tutorial", "ab") == "tutorial"
    assert graph_id("karate_club+self_loops", "ab") == "karate_club+self_loops"
    assert graph_id("dir/tutorial.npz", "ab") == "sha256:ab"


def test_built_in_graphs_keep_their_keys_and_numbers():
    """Of a store of today: whoever changes them changes the numbers of all sweeps."""
    (entry,) = (cells := prepare(SweepSpec())).entries
    assert entry.key == "tutorial.gat.h1.c2.tutorial.raw.s0.2-672e6837"
    assert cells.prepared[entry.key].inputs.key.tolist() == [KEY_0, KEY_1]


KEY_0, KEY_1 = 2801135065, 3112958809


def test_the_numbers_of_a_file_do_not_depend_on_how_its_path_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    save_twins("g.npz")
    shutil.copy("g.npz", "sub/other name.npz")
    keys = set()
    spellings = "g.npz", "./g.npz", str(tmp_path / "g.npz"), "sub/../g.npz", "sub/other name.npz"
    for name in spellings:
        (entry,) = (cells := prepare(signs_spec(graph=(name,)))).entries
        keys.add((entry.key, *cells.prepared[entry.key].inputs.key.tolist()))
    assert len(keys) == 1
    first = prepare(signs_spec(graph=("g.npz",))).header
    for name in spellings:
        check_enlarges(first, prepare(signs_spec(graph=(name, "tutorial"))).header)
        if name != "g.npz":
            with pytest.raises(
                ValueError, match=r"graph: expected different graphs, got g\.npz and"
            ):
                prepare(signs_spec(graph=("g.npz", name)))
    save_twins("g.npz", twins=3)
    other = prepare(signs_spec(graph=("sub/../g.npz",))).header
    with pytest.raises(ValueError, match=r"graph without g\.npz, which the store has"):
        check_enlarges(first, other)


def test_a_store_says_what_its_cells_are_where_the_graph_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_twins("g.npz")
    cells = prepare(signs_spec(graph=("g.npz",), layer=("gat", "gcn"), heads=(1, 2)))
    Blocks(tmp_path, schema=records.SCHEMA).set_header(cells.header.to_json())
    Path("g.npz").unlink()
    monkeypatch.chdir("/")
    found, _ = load_blocks(tmp_path)
    assert found == cells._replace(prepared={})
    assert [entry.num_pairs for entry in found.entries] == [7, 7, 7]  # 6 twins, and the hubs
    assert [entry.num_compared_pairs for entry in found.entries] == [7, 7, 7]


@pytest.mark.slow
def test_a_store_is_read_where_the_graph_is_not(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_twins("g.npz")
    spec = signs_spec(graph=("g.npz",), num_inits=100, keep="raw")
    summary = run_sweep(spec, "s.zarr")
    (tmp_path / "here" / "g.npz").unlink()
    shutil.move("s.zarr", tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    for file in (tmp_path / "there").rglob("*"):  # nothing is written either
        file.chmod(0o555 if file.is_dir() else 0o444)
    cells, blocks = load_blocks("s.zarr")
    assert blocks.present(cells.entries[0].key) == [0]
    assert cells.entries[0].num_pairs == int(summary.num_pairs.squeeze())
    raw = load_raw("s.zarr")
    assert int(raw.collided_pairs.sum()) == int(summary.collisions.squeeze())
    for file in (tmp_path / "there").rglob("*"):
        file.chmod(0o755)


def test_names_that_are_no_text_and_numbers_that_are_too_large_are_refused():
    for name in ("a\udcff.npz", "a\0.npz"):
        with pytest.raises(ValueError, match="graph: expected names that are valid text, got"):
            signs_spec(graph=(name,))
    with pytest.raises(ValueError, match="num_inits: expected at most"):
        prepare(signs_spec(num_inits=2**60))
    assert np.uint32(2**32 - 1) == prepare(signs_spec(num_inits=2**32)).spec.num_inits - 1
