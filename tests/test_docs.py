"""The pages in docs/ keep to what is there: files, links, code, numbers, rooms."""

import importlib
import re
from dataclasses import fields
from operator import attrgetter

import performance_tables
import pytest
import yaml
from pages import PAGES, ROOT, anchors_of, is_there, links_of, prose_of, quoted_paths, run_blocks
from test_architecture import ALLOWED

import gat_jax
from gat_jax.commands import sweep
from gat_jax.sweeps import SweepSpec
from gat_jax.sweeps.machine import WORTH_PROCESSES

# What commands write: it is named in the pages and is in no checkout.
WRITTEN = {"claims.json", "figures/", "history.csv", "report.html", "summary.csv", "summary.json"}


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    missing = {path for path in quoted_paths(PAGES[page]) - WRITTEN if not is_there(path)}
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    broken = set()
    for link in links_of(PAGES[page]):
        path, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        is_found = target.is_file()
        if is_found and anchor:
            is_found = anchor in anchors_of(target.read_text(encoding="utf-8"))
        broken |= set() if is_found else {link}
    assert not broken


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if "```python run" in text])
def test_code_that_is_marked_runs(page, capsys):
    assert run_blocks(page)


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_package_that_a_page_quotes_exist(page):
    """`gat_jax.layers`, `gat_jax.layers.gat` and the like."""
    for name in re.findall(r"`(gat_jax(?:\.\w+)+)`", prose_of(PAGES[page])):
        parent, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(parent), last), name


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if "gj." in text])
def test_names_of_the_face_that_a_page_uses_exist(page):
    """`gj.gat`, `gj.flax_nnx.GAT` and the like, in prose and in code."""
    for name in re.findall(r"\bgj((?:\.\w+)+)", PAGES[page]):
        attrgetter(name[1:])(gat_jax)


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = {"README.md"}, ["README.md"]
    while waiting:
        page = waiting.pop()
        for link in links_of(PAGES[page]):
            target = ((ROOT / page).parent / link.partition("#")[0]).resolve()
            name = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else link
            if name in PAGES and name not in reached:
                reached.add(name)
                waiting.append(name)
    assert reached == set(PAGES)


def test_the_tables_of_performance_are_current():
    for page in performance_tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert "<!-- performance: " in text
        assert performance_tables.current(text) == text, "run scripts/performance_tables.py"


def test_a_generated_part_that_is_changed_by_hand_is_noticed_and_mended(
    tmp_path, monkeypatch, capsys
):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- performance: training -->\n5 times\n<!-- end -->\nb\n")
    monkeypatch.setattr(performance_tables, "ROOT", tmp_path)
    monkeypatch.setattr(performance_tables, "PAGES", (page,))
    monkeypatch.setitem(performance_tables.PARTS, "training", lambda: "6 times")
    assert performance_tables.main(["--check"]) == 1
    assert capsys.readouterr().err == "page.md: not what benchmarks/ says\n"
    assert performance_tables.main([]) == 0
    assert page.read_text() == "a\n<!-- performance: training -->\n6 times\n<!-- end -->\nb\n"
    assert performance_tables.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- performance: speed -->\n<!-- end -->", "page: expected one of .*, got speed"),
        ("<!-- performance: training -->\n", "page: expected as many ends as beginnings, got 1"),
    ],
)
def test_a_generated_part_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        performance_tables.current(text)


@pytest.mark.parametrize(
    ("number", "count", "text"),
    [
        (0.742244, 3, "0.742"),
        (0.29968, 3, "0.300"),
        (10.7905, 3, "10.8"),
        (9.996, 3, "10.0"),
        (7906.48, 2, "7,900"),
        (6.52, 2, "6.5"),
    ],
)
def test_numbers_have_the_digits_that_count(number, count, text):
    assert performance_tables.digits(number, count) == text


def test_durations_and_rates_have_units():
    assert performance_tables.duration(0.00269) == "2.69 ms"
    assert performance_tables.duration(0.408135) == "0.408 s"
    assert performance_tables.rate(34_705_211.6) == "34.7 M"
    assert performance_tables.rate(1835.4) == "1.84 k"
    assert performance_tables.rate(932.27) == "932"


def test_the_floors_of_the_rooms_are_those_of_the_imports():
    lines = re.findall(r"^\| (\d+) \| `(\w+)/` \|", PAGES["docs/architecture.md"], re.MULTILINE)
    floors = {room: int(floor) for floor, room in lines}
    assert set(floors) == set(ALLOWED)
    for room, allowed in ALLOWED.items():
        assert floors[room] == max((floors[other] + 1 for other in allowed), default=0), room


def test_options_of_sweeps_that_the_pages_name_exist():
    known = {field.name for kind in (sweep.Options, SweepSpec) for field in fields(kind)}
    known |= {f"no_{field.name}" for field in fields(sweep.Options) if field.type is bool}
    for page in ("README.md", "docs/sweeps.md"):
        lines = [line for line in PAGES[page].split("\n") if "gat-jax sweep" in line]
        assert lines
        named = set(re.findall(r"--([a-z-]+)", "\n".join(lines)))
        if page == "docs/sweeps.md":
            named |= set(re.findall(r"`--([a-z-]+)", PAGES[page]))
        assert {name.replace("-", "_") for name in named} <= known


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license", "version"} <= set(citation)
    version = re.search(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert version is not None
    assert citation["version"] == version[1]
    assert all(set(author) == {"name"} for author in citation["authors"])


def test_the_page_on_sweeps_says_when_processes_are_worth_their_start():
    assert f"more\nthan {WORTH_PROCESSES:.0f} seconds." in PAGES["docs/sweeps.md"]


@pytest.mark.filterwarnings("ignore:Port 8787 is already in use")
def test_the_script_for_slurm_makes_jobs_of_one_worker_with_one_gpu(monkeypatch):
    from dask_jobqueue import SLURMCluster

    (script,) = re.findall(r"```python slurm\n(.*?)```", PAGES["docs/sweeps.md"], re.DOTALL)
    jobs, machines = [], []
    # As it ends, Dask scales a cluster to 0.
    monkeypatch.setattr(SLURMCluster, "scale", lambda _, n=1, **wanted: jobs.append(wanted or n))
    monkeypatch.setattr(
        gat_jax, "run_sweep", lambda spec, path, machine: machines.append(machine), raising=False
    )
    names = {"__name__": "__main__"}
    exec(script, names)
    cluster = names["cluster"]
    text = cluster.job_script()
    cluster.close()
    assert jobs == [{"jobs": 8}, 0]
    assert [machine.scheduler for machine in machines] == [cluster.scheduler_address]
    assert "#SBATCH --gres=gpu:1" in text
    assert f"dask_worker {cluster.scheduler_address} " in text
    assert "--nthreads 1 " in text
    assert "--nworkers" not in text or "--nworkers 1 " in text
