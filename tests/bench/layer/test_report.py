import io

from bench.layer import report, systems
from bench.layer.systems import OURS, PYG_EAGER
from rich.console import Console


def synthetic_document(ratio, peaks, prepare_seconds=0.5):
    """One case in two environments, in the second of which the peer failed."""
    case = report.GAT
    entries = [
        {"system": OURS, "peak_mib": peaks[0], "ratio_to_peer": 1.0, "median_seconds": 1.0},
        {"system": PYG_EAGER, "peak_mib": peaks[1], "ratio_to_peer": ratio, "median_seconds": 9.0},
    ]
    entries[0] |= {"compile_seconds": 11.0, "prepare_seconds": prepare_seconds}
    entries[0] |= {"prepare_in_steps_saved": None, "temporary_mib": 1.0, "layout": "bucketed: so"}
    entries[0] |= {"bound_seconds": 0.1, "times_bound": 10.0}
    shared = {"case": case, "graph": "arxiv-like", "pass": "forward+backward"}
    shared |= {"max_relative_error": 1e-6, "environment": "default"}
    entries = [shared | entry for entry in entries]
    broken = {"environment": "huge pages", "ratio_to_peer": None, "median_seconds": None}
    entries.append(entries[1] | broken | {"peak_mib": None, "failure": "no memory"})
    growth = {"edges": 1_000, "nodes": 60, "median_seconds": 1.0, "ns_per_edge": 10.0}
    growth |= {"system": OURS, "environment": "default"}
    environments = {"default": {}, "huge pages": {}}
    document = {"entries": entries, "environments": environments, "growth": [growth], "notes": []}
    return document | {"machine": {"backend": "cpu"}}


def verdicts(document):
    rows = report.judge(document)
    return {(r["case"], r["peer"], r["measure"]): r["is_met"] for r in rows}


def test_targets_are_met_or_not_by_what_was_measured():
    case = report.GAT
    met = verdicts(synthetic_document(7.0, (100.0, 600.0)))
    assert met[case, PYG_EAGER, "ratio_to_peer"] == {"default": True, "huge pages": None}
    assert met[case, PYG_EAGER, "memory"] == {"default": True, "huge pages": None}
    assert met[case, OURS, "compile_seconds"]["default"] is False
    assert met[case, OURS, "prepare_seconds"]["default"] is True
    assert met[case, OURS, "prepare_in_steps_saved"] == {"default": False, "huge pages": None}
    missed = verdicts(synthetic_document(6.9, (100.0, 599.0), prepare_seconds=2.1))
    assert missed[case, PYG_EAGER, "ratio_to_peer"]["default"] is False
    assert missed[case, PYG_EAGER, "memory"]["default"] is False
    assert missed[case, OURS, "prepare_seconds"]["default"] is False
    assert missed[report.TRAINING, report.PYG_IN_TURN, "ratio_to_peer"] == {
        "default": None,
        "huge pages": None,
    }


def test_tables_and_figure_show_verdicts_and_failures():
    document = synthetic_document(6.9, (100.0, 600.0))
    document["targets"] = report.judge(document)
    console = Console(width=140, record=True, file=io.StringIO())
    for table in report.tables(document):
        console.print(table)
    text = console.export_text()
    assert "6.9 not met" in text
    assert "6 met" in text
    assert "not measured" in text
    assert "no memory" in text
    assert "never not met" in text
    assert text.index("Targets") > text.index("Growth")
    assert len(report.draw(document).axes) == 2
    document["growth"] = []
    report.draw(document)


def test_fastest_pyg_is_the_one_that_we_lead_least():
    document = synthetic_document(6.9, (1.0, 6.0))
    compiled = document["entries"][1] | {"system": systems.PYG_COMPILED}
    document["entries"].append(compiled | {"ratio_to_peer": 3.5})
    assert report.fastest_pyg(document, "default", report.GAT) == 3.5
    assert report.fastest_pyg(document, "huge pages", report.GAT) is None
