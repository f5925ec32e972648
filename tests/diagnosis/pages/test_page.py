"""The page of a diagnosis: what it says, that it is escaped and cut, and how a browser shows it."""

import dataclasses
import html
import re
import time

import jax
import numpy as np
import pytest
from browser import Browser
from findings import make_findings, make_hub, make_layer

from gat_jax import graphs
from gat_jax.diagnosis.diagnose import from_observed
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.pages.page import page_data, write_page
from gat_jax.diagnosis.results import Check, RemedyReport
from gat_jax.layers import LayerConfig, init_layer

HOSTILE = '<script>alert("x")</script>'
# 2 and 3 receive from 0 and 1, and come out equal; 4 and 5 cannot be separated.
EDGES = [(0, 2), (1, 2), (0, 3), (1, 3), (2, 0), (0, 4), (0, 5), (2, 4), (2, 5)]
FINAL, COLOURS = [0, 1, 2, 2, 4, 4], [0, 1, 2, 3, 4, 4]
BACKGROUNDS = {"light": "rgb(246, 248, 250)", "dark": "rgb(13, 17, 23)"}
# Letters in CSS pixels as they are shown: those of a drawing grow and shrink with it.
LETTERS = """
[...document.querySelectorAll('text, p, li, td, th, h1, h2, h3, h4, code, summary, span')]
  .filter(x => x.getClientRects().length && x.textContent.trim())
  .map(x => {
    const m = x.tagName === 'text' ? x.getScreenCTM() : {a: 1, b: 0};
    return parseFloat(getComputedStyle(x).fontSize) * Math.hypot(m.a, m.b);
  })
"""


@pytest.fixture
def written(tmp_path):
    """Write a page and return its text."""

    def write(found):
        write_page(found, tmp_path / "page.html")
        return (tmp_path / "page.html").read_text(encoding="utf-8")

    return write


def words_of(page):
    """The page as a reader sees it."""
    body = re.sub(r"<(style|title)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_answer_comes_first(written):
    words = words_of(written(make_findings(EDGES, FINAL, COLOURS)))
    assert words.startswith("This is the answer.")
    assert "6 nodes, 9 edges and 1 layer." in words
    assert "Note: This is a note." in words
    assert "head 0 50% of all rows positive, 50% negative all logits positive" in words


def test_all_text_from_outside_is_escaped(written):
    layer = make_layer(FINAL, name=HOSTILE, system=HOSTILE, note=HOSTILE)
    found = make_findings(
        EDGES,
        FINAL,
        COLOURS,
        node_names=(HOSTILE, "\u202edab", "\udcff", "\x1b[31m", "a&b", "'\""),
        layers=(layer,),
        answer=HOSTILE,
        notes=(HOSTILE,),
        checks=(Check(HOSTILE, "fail", HOSTILE), Check(HOSTILE, "pass", HOSTILE)),
        remedies=(RemedyReport("x", HOSTILE, 0.5, None, HOSTILE, HOSTILE),),
    )
    page = written(found)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 12
    assert not set("\u202e\x1b") & set(page)
    assert "\\u202edab" in page
    assert "\\udcff" in page


def test_nothing_is_fetched_from_elsewhere(written):
    page = written(make_findings(EDGES, FINAL, COLOURS))
    assert not re.findall(r"https?:|src=|href=|url\(|@import|<link", page)


def test_checks_that_fail_come_first_and_those_that_pass_are_folded():
    checks = page_data(make_findings(EDGES, FINAL, COLOURS))["checks"]
    assert checks["counts"] == {"fail": 1, "warn": 1, "pass": 1}
    assert [row["name"] for row in checks["open"]] == ["bad", "odd"]
    assert [row["name"] for row in checks["passed"]] == ["fine"]


def test_groups_say_who_is_equal_and_why():
    found = make_findings(EDGES, FINAL, COLOURS, labels=np.array([0, 0, 1, 0, -1, 2]))
    first, second = page_data(found)["groups"]
    assert first["members"] == "2, 3"
    assert first["reason"] == "in conv1 every attention logit is positive"
    assert first["labels"] == "2"
    assert second["kind"] == "inseparable"
    assert second["labels"] == "1"


def test_a_page_of_a_small_graph_draws_all_and_of_a_large_one_neighbourhoods(written):
    assert "The graph is large" not in words_of(written(make_hub(149)))
    words = words_of(written(make_hub(150)))
    assert "The graph is large" in words
    assert words.count("senders members") == 1
    assert "and 138 more" in words


def test_long_lists_are_cut_and_counted(written):
    num = 200
    edges = [(0, k) for k in range(1, num)]
    final = [0, *(k - (k + 1) % 2 for k in range(1, num))]
    checks = tuple(Check(f"c{k}", "fail", "x") for k in range(100))
    layers = tuple(make_layer(final, name=f"conv{k}") for k in range(50))
    words = words_of(written(make_findings(edges, final, checks=checks, layers=layers)))
    assert "and 79 more groups" in words
    assert "and 40 more" in words
    assert words.count("and 44 more layers") == 1  # of the charts
    assert words.count("and 10 more layers") == 1  # of the table
    assert "0 and 1: 1.0e-06; and 2 more" in words


def test_remedies_are_bars(written):
    tried = {"separated": 0.5, "final_loss": 0.25, "failed": 2}
    reports = (
        RemedyReport("a", "A", 0.25, (0.2, 0.35), "nothing", "predicted"),
        RemedyReport("b", "B", None, None, "much", "tried", tried),
    )
    page = written(make_findings(EDGES, FINAL, COLOURS, remedies=reports))
    assert '<i style="width:25.0%"></i><b style="left:20.0%;width:15.0%"></b>' in page
    assert '<i style="width:50.0%"></i></div>' in page
    words = words_of(page)
    assert "A 25% (20% to 35%) not tried predicted nothing" in words
    assert "B not predicted 50% (loss 0.25, 2 runs failed) tried much" in words


def test_a_layer_without_attention_and_one_of_channels_say_so(written):
    regimes = make_layer(FINAL).regimes._replace(num_panels=16)
    layers = (
        make_layer(FINAL, kind="gcn", regimes=None),
        make_layer(FINAL, kind="gatv2", regimes=regimes),
    )
    words = words_of(written(make_findings(EDGES, FINAL, layers=layers)))
    assert "It has no attention, and so no logits." in words
    assert "Of 16 channels of heads, the first 2 are drawn." in words


def test_a_diagnosis_of_nothing_special_has_a_page(written):
    found = make_findings([(0, 1), (1, 2)], range(3), checks=(), remedies=(), notes=())
    layer = make_layer(range(3), near_misses=(), num_near_misses=0)
    words = words_of(written(dataclasses.replace(found, layers=(layer,))))
    assert "No two nodes come out equal" in words
    assert "sees the edges, there are none." in words
    assert "Every check passes" in words
    assert "Near misses" not in words


def test_floors_and_earlier_checkpoints_are_facts(written):
    before = make_findings(EDGES, range(6))
    found = make_findings(
        EDGES, FINAL, COLOURS, before=before, loss_floor=0.5, unavoidable_loss_floor=0.0
    )
    words = words_of(written(found))
    assert "cross-entropy at 0.5000 nats or above; none of it is unavoidable" in words
    assert "Before, 0 nodes were equal to another; now 4 are." in words


def test_write_page_makes_folders_and_refuses_one(tmp_path):
    found = make_findings(EDGES, FINAL, COLOURS)
    write_page(found, tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").is_file()
    with pytest.raises(ValueError, match="path: expected the path of a file, got the folder"):
        write_page(found, tmp_path)


def test_a_hub_of_100_000_leaves_is_written_in_seconds(tmp_path):
    found = make_hub(99_999)
    start = time.perf_counter()
    write_page(found, tmp_path / "page.html")
    assert time.perf_counter() - start < 10.0
    assert (tmp_path / "page.html").stat().st_size < 100_000


def test_a_diagnosis_writes_its_own_page(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    graph = graphs.from_edges(*np.array(EDGES).T, nodes=x)
    config = LayerConfig(heads=2, channels=2)
    layer = ImportedLayer("conv1", "test", config, init_layer(jax.random.key(0), config, 2))
    found = from_observed(observe_weights([layer], graph), num_fresh=0)
    found.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert words_of(page).startswith(found.answer)
    assert page.count("all logits positive") == 2
    (facts,) = (result.head_facts for result in found.layers)
    assert facts.entropy_counts.sum(axis=1).tolist() == [4, 4]  # 2, 3, 4 and 5 have two senders


def test_pages_in_a_browser(tmp_path):
    """On a phone and on a screen, light and dark: nothing sticks out, is fetched or too small."""
    names = ("a", "b", HOSTILE, "d" * 60, "e", "f")
    write_page(make_findings(EDGES, FINAL, COLOURS, node_names=names), tmp_path / "small.html")
    write_page(make_hub(100), tmp_path / "middle.html")
    write_page(make_hub(500), tmp_path / "large.html")
    with Browser() as browser:
        for name in ("small", "middle", "large"):
            for width, theme in ((360, "light"), (1200, "dark")):
                browser.open(tmp_path / f"{name}.html", width=width, height=800, theme=theme)
                assert browser.evaluate("document.documentElement.scrollWidth") <= width, name
                assert min(browser.evaluate(LETTERS)) > 11.9, (name, width)
                assert len(browser.requests()) == 1
                assert browser.complaints() == []
                background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
                assert background == BACKGROUNDS[theme]
