"""The page to play with: what it is given, what is refused, and how it behaves in a browser."""

import re

import jraph
import numpy as np
import pytest
from browser import Browser, find_chromium

from gat_jax import graphs
from gat_jax.diagnosis.pages.playground import playground_data, write_playground

PRESETS = ("The article\u2019s case", "Separated", "GATv2", "Standardised features", "Two heads")
CLICK = "[...document.querySelectorAll('button')].find(b => b.textContent === {!r}).click()"
TEXT = "document.getElementById({!r}).textContent"


def ring(num_nodes: int, num_features: int = 2) -> jraph.GraphsTuple:
    """A graph without twins: every node receives from the one before it and from itself."""
    nodes = np.arange(num_nodes, dtype=np.float32)[:, None] + np.zeros(
        (1, num_features), np.float32
    )
    ids = np.arange(num_nodes)
    senders = np.concatenate([np.roll(ids, 1), ids])
    return graphs.from_edges(senders, np.concatenate([ids, ids]), nodes=nodes)


def star(num_leaves: int) -> jraph.GraphsTuple:
    """Two hubs that send to all leaves: the leaves are twins."""
    senders = np.tile([0, 1], num_leaves)
    receivers = np.repeat(np.arange(num_leaves) + 2, 2)
    nodes = np.random.default_rng(0).normal(size=(num_leaves + 2, 3)).astype(np.float32)
    return graphs.from_edges(senders, receivers, nodes=nodes)


# --- what the page is given ----------------------------------------------------------------------


def test_the_tutorial_is_what_the_page_shows_by_default():
    data = playground_data()
    assert data["features"] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    edges = set(zip(data["senders"], data["receivers"], strict=True))
    assert edges == {(j, i) for i in range(4) for j in range(4)} - {(2, 0), (3, 0), (0, 2), (0, 3)}
    assert data["labels"] == [0, 0, 0, 1]
    assert data["pairs"] == [[2, 3]]
    assert data["floor"] == pytest.approx(2 * np.log(2) / 4)
    assert data["is_tutorial"]


def test_a_graph_of_ones_own_has_all_its_pairs_and_labels():
    data = playground_data(star(4))
    assert data["pairs"] == [[2, 3], [2, 4], [2, 5], [3, 4], [3, 5], [4, 5]]
    assert data["labels"] == [0, 0, 0, 0, 0, 1]
    assert not data["is_tutorial"]
    assert playground_data(star(4), [-1, 0, 1, 1, 0, 0])["labels"] == [-1, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("graph", "labels", "message"),
    [
        (star(11), None, "graph: expected 1 to 12 nodes, got 13"),
        (ring(5, 13), None, "graph: expected 1 to 12 features, got 13"),
        (ring(5), None, "graph: expected twins, nodes that receive from the same two senders"),
        (star(2)._replace(edges=np.ones((4, 1), np.float32)), None, "graph: expected no edge feat"),
        (
            graphs.pad(star(2), num_nodes=8, num_edges=8),
            None,
            "graph: expected no padding, got some",
        ),
        (star(2), [0, 1], r"labels: expected shape \(4,\), got \(2,\)"),
        (star(2), [0, 1, 2, 0], r"labels: expected classes 0 and 1, or -1, got"),
        (star(2), [-1] * 4, "labels: expected at least one node with a class, got none"),
    ],
)
def test_what_has_no_room_on_the_page_is_refused(graph, labels, message):
    with pytest.raises(ValueError, match=message):
        playground_data(graph, labels)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="out: expected the path of a file, got the folder"):
        write_playground(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_machine_without_chromium_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"chromium: expected one of chromium, .* on PATH"):
        find_chromium()


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    found = tmp_path_factory.mktemp("pages") / "new folder" / "playground.html"
    write_playground(found)
    return found


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture
def page(browser, path):
    """The page as it is opened; afterwards it has complained of nothing and fetched nothing."""
    browser.open(path)
    yield browser
    assert browser.complaints() == []
    assert browser.requests() == [path.resolve().as_uri()]


def test_the_page_is_one_file(path):
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(https?:)?//[a-z]", source.replace("://", ":"))
    assert not re.search(r"\b(src|href)=\"(?!data:,)", source)
    assert "fetch(" not in source
    assert "import(" not in source


def test_the_articles_case_is_shown_first(page):
    assert "Nodes 2 and 3 come out equal: every logit of both rows is positive" in page.evaluate(
        TEXT.format("sentence")
    )
    facts = page.evaluate("[...document.querySelectorAll('#facts dd')].map(x => x.textContent)")
    assert facts == ["equal", "0", "100.0%", "1.0633"]
    rows = page.evaluate("[...document.querySelectorAll('.row')].map(x => x.textContent)")
    assert [row[:13] for row in rows[:2]] == ["Node 2, a twi", "Node 3, a twi"]
    assert all("Output (4.000, 5.000)" in row for row in rows[:2])
    assert "1.099 of 1.099 (100.0%)" in rows[0]


@pytest.mark.parametrize(
    ("preset", "verdict"),
    [(name, "equal" if name == PRESETS[0] else "different") for name in PRESETS],
)
def test_presets_show_what_they_are_named_for(page, preset, verdict):
    page.evaluate(CLICK.format(preset))
    assert page.evaluate("document.querySelector('#facts dd').textContent") == verdict
    assert f"come out {verdict}" in page.evaluate(TEXT.format("sentence"))
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(x => x.textContent)"
    assert page.evaluate(pressed) == [preset]
    assert page.evaluate("document.querySelectorAll('#plane svg').length") == (
        2 if preset == "GATv2" else 1
    )


def test_the_same_parameters_on_raw_features_make_the_twins_equal(page):
    page.evaluate(CLICK.format("Standardised features"))
    page.evaluate("document.querySelector('[name=scaling][value=raw]').click()")
    assert "come out equal" in page.evaluate(TEXT.format("sentence"))


def test_a_slider_moves_with_the_keyboard_and_all_pictures_with_it(page):
    parts = ("graph", "plane", "rows", "facts")
    read = "[" + ",".join(f"document.getElementById({part!r}).innerHTML" for part in parts) + "]"
    before = page.evaluate(read)
    page.evaluate("document.getElementById('aSend-0').focus()")
    for _ in range(3):
        page.press("ArrowRight")
    assert page.evaluate("document.querySelector('output[for=aSend-0]').textContent") == "0.13"
    after = page.evaluate(read)
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "come out equal" in page.evaluate(TEXT.format("sentence"))  # the regime survives it
    page.press("Home")  # n_j is far below 0 now: mixed signs, or all negative
    assert (
        page.evaluate("document.querySelector('output[for=aSend-0]').textContent") == "\u22122.00"
    )
    assert "is negative" in page.evaluate(TEXT.format("sentence"))


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(page):
    names = []
    for _ in range(60):
        page.press("Tab")
        name = page.evaluate(
            """(() => { const e = document.activeElement; if (e === document.body) return null;
            const drawn = e.type === "radio" ? e.nextElementSibling : e;
            const outline = getComputedStyle(drawn).outlineStyle;
            const label = e.getAttribute("aria-label") || e.textContent
              || (e.labels && e.labels[0] && e.labels[0].textContent);
            return [e.id || e.name || e.textContent, label, outline]; })()"""
        )
        if name is None:
            break
        names.append(name)
    found = [name for name, *_ in names]
    assert found[: len(PRESETS)] == list(PRESETS)
    assert found[len(PRESETS) : len(PRESETS) + 3] == ["layer", "heads", "scaling"]
    expected = {"slope", "aRecv-0", "aSend-1", "kernel-0-0", "kernel-1-1", "bias-0", "play", "step"}
    assert expected | {"reset", "rate", "speed", "draw", "draw-many"} <= set(found)
    assert all(label.strip() for _, label, _ in names)
    assert {outline for *_, outline in names} == {"solid"}


def test_a_preset_is_taken_with_the_keyboard(page):
    page.press("Tab")
    page.press("Tab")
    page.press("Enter")
    assert "come out different" in page.evaluate(TEXT.format("sentence"))


def test_more_heads_have_sliders_of_their_own(page):
    page.evaluate("document.querySelector('[name=heads][value=\"4\"]').click()")
    assert not page.evaluate("document.getElementById('head').hidden")
    page.evaluate("document.querySelector('[name=head][value=\"1\"]').click()")
    assert (
        page.evaluate("document.querySelector('output[for=aRecv-0]').textContent") == "\u22120.40"
    )
    sentence = page.evaluate(TEXT.format("sentence"))
    assert "come out different: in heads 2, 3 of 4 their logits" in sentence
    page.evaluate("document.querySelector('[name=heads][value=\"1\"]').click()")
    assert page.evaluate("document.getElementById('head').hidden")
    assert "come out equal" in page.evaluate(TEXT.format("sentence"))


def test_gradient_descent_goes_step_by_step_plays_pauses_and_is_reset(page):
    page.evaluate("for (let k = 0; k < 30; k += 1) document.getElementById('step').click()")
    assert page.evaluate(TEXT.format("count")) == "30"
    assert "the twin gap is still 0" in page.evaluate(TEXT.format("story"))
    entropy = "parseFloat(document.querySelectorAll('#facts dd')[2].textContent)"
    assert page.evaluate(entropy) < 99
    page.evaluate("document.getElementById('play').click()")
    waiting = """new Promise(done => { const look = () =>
      Number(document.getElementById('count').textContent) > 60 ? done(1) : setTimeout(look, 20);
      look(); })"""
    page.evaluate(waiting)
    assert page.evaluate(TEXT.format("play")) == "Pause"
    page.evaluate("document.getElementById('play').click()")
    count = page.evaluate(TEXT.format("count"))
    page.evaluate("new Promise(done => setTimeout(done, 100))")
    assert page.evaluate(TEXT.format("count")) == count
    page.evaluate("document.getElementById('reset').click()")
    assert page.evaluate(TEXT.format("count")) == "0"
    assert page.evaluate("document.querySelector('output[for=aSend-0]').textContent") == "0.10"


def test_many_random_starts_are_counted(page):
    page.evaluate("document.getElementById('draw-many').click()")
    found = re.match(r"(\d+) of 1,000 random starts", page.evaluate(TEXT.format("luck")))
    assert found
    assert 500 < int(found[1]) < 900  # 0.7 in the long run: a standard deviation is 0.015


SMALLEST = """(() => { let least = [99, ""];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const parent = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !parent.getClientRects().length) continue;
    let size = parseFloat(getComputedStyle(parent).fontSize);
    if (parent.ownerSVGElement) size *= parent.ownerSVGElement.getScreenCTM().a;
    if (size < least[0]) least = [size, walk.currentNode.data];
  }
  return least; })()"""
PAST_THE_EDGE = """[...document.querySelectorAll('main *')].filter(e => !e.closest('svg')
  && e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.className)"""


@pytest.mark.parametrize("preset", PRESETS)
def test_a_phone_shows_all_of_it(browser, path, preset):
    browser.open(path, width=360, height=740, theme="dark")
    browser.evaluate(CLICK.format(preset))
    browser.evaluate("for (let k = 0; k < 5; k += 1) document.getElementById('step').click()")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.evaluate(PAST_THE_EDGE) == []
    size, text = browser.evaluate(SMALLEST)
    assert size >= 12, text


def test_light_and_dark_have_colours_of_their_own(browser, path):
    colours = []
    for theme in ("light", "dark"):
        browser.open(path, theme=theme)
        script = "['backgroundColor', 'color'].map(k => getComputedStyle(document.body)[k])"
        colours.append(browser.evaluate(script))
    assert colours == [
        ["rgb(246, 248, 250)", "rgb(27, 31, 36)"],
        ["rgb(13, 17, 23)", "rgb(230, 237, 243)"],
    ]


def test_a_graph_of_ones_own_has_a_choice_of_twins(browser, tmp_path):
    path = tmp_path / "star.html"
    write_playground(path, star(10))
    browser.open(path, width=360, height=740)
    assert browser.evaluate("document.querySelectorAll('#pair option').length") == 45
    browser.evaluate(
        "const chosen = document.getElementById('pair'); chosen.value = 44;"
        "chosen.dispatchEvent(new Event('change'))"
    )
    assert "Nodes 10 and 11" in browser.evaluate(TEXT.format("sentence"))
    # What is said of the tutorial's graph need not be true of this one.
    names = browser.evaluate(
        "[...document.querySelectorAll('#presets button')].map(x => x.innerText)"
    )
    assert names == ["The article\u2019s parameters", *PRESETS[2:]]
    assert browser.evaluate(TEXT.format("about")) == ""
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.complaints() == []


def test_a_step_to_numbers_that_are_not_finite_is_not_made(page):
    page.evaluate(CLICK.format("One step"))
    before = page.evaluate("document.getElementById('rows').innerHTML")
    page.evaluate("Attention.step = (params) => ({ ...params, bias: [[NaN, 0]] }); 0")
    page.evaluate(CLICK.format("Play"))
    page.evaluate("new Promise(done => setTimeout(done, 200))")
    assert "The next step leads to numbers that are not finite" in page.evaluate(
        TEXT.format("story")
    )
    assert page.evaluate(TEXT.format("count")) == "1"
    assert page.evaluate(TEXT.format("play")) == "Play"
    assert page.evaluate("document.getElementById('rows').innerHTML") == before
