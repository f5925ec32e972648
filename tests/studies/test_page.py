"""The page: self-contained, complete, escaped, and without numbers that are none."""

import html
import re
from html.parser import HTMLParser

import pytest
from studies.test_figures import make_dataset

from gat_jax.report import Picture
from gat_jax.studies import Claim, Measurement, claims, figures, page

HOSTILE = "<script>alert('1')</script> & \"quoted\""


def make_entries(changes: dict[str, Measurement] | None = None) -> list[dict]:
    """Return entries for every id: shares of one half, and two graphs."""
    extra = {
        "graph.big_graph.with_loops.collision.gat.h1": Claim("big_graph: pairs equal."),
        "graph.small.with_loops.collision.gat.h1": Claim("small: pairs equal."),
    }
    usual = Measurement(0.50123456789, 0.4912345, 0.5123456, 1_000_000, "Half of them.", 0.501)
    measured = dict.fromkeys(claims.CLAIMS | extra, usual)
    measured["graph.small.with_loops.collision.gat.h1"] = Measurement(
        None, None, None, 0, "No twins."
    )
    return claims.judge(measured | (changes or {}), extra)


class Page(HTMLParser):
    """Tags and visible text of a page, and what it refers to."""

    void = frozenset({"meta", "img", "source", "br", "link", "input"})

    def __init__(self, source: str):
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


# Drawing takes most of the time of a page.
DRAWN = dict.fromkeys(page.CAPTIONS, (Picture(b"LIGHT", 490, 400, "A title"),) * 2)


def write(tmp_path, entries, dataset, pictures=DRAWN) -> Page:
    page.write_page(entries, dataset, pictures, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Page:
    dataset = make_dataset().assign_attrs(seed=7, num_inits=1000, version_jax="9.8.7")
    pictures = {name: figures.draw(name, dataset) for name in figures.FIGURES}
    return write(tmp_path_factory.mktemp("page"), make_entries(), dataset, pictures)


def test_page_refers_to_nothing_outside_itself(whole):
    for tag, attrs in whole.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        for name in ("src", "srcset", "href", "data", "action", "poster"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), (tag, name)
    assert not re.search(r"url\(|@import|https?://", whole.source)
    assert len(whole.source) < 3_000_000


def test_page_links_lead_somewhere(whole):
    targets = {attrs["id"] for _, attrs in whole.tags if "id" in attrs}
    links = {(attrs["href"] or "").removeprefix("#") for attrs in whole.attributes("a")}
    assert links == {f"claim-{number}" for number in claims.ARTICLE_CLAIMS}
    assert links <= targets


def test_page_holds_every_claim_and_every_id_with_all_it_has(whole):
    for text in claims.ARTICLE_CLAIMS.values():
        assert text in whole.text
    for entry in make_entries():
        for part in (entry["id"], entry["claim"], entry["explanation"], entry["rule"]):
            assert " ".join(part.split()) in whole.text, part
    verdicts = [e["verdict"] for e in make_entries() if e["article_claim"] is not None]
    for verdict in set(verdicts):
        badges = [text for text in whole.texts if text == f"{page.SIGNS[verdict]} {verdict}"]
        assert len(badges) == verdicts.count(verdict)


def test_page_formats_numbers_for_people(whole):
    assert "0.501" in whole.texts
    assert "[0.491, 0.512]" in whole.texts
    assert "1,000,000" in whole.texts
    assert not re.search(r"\d\.\d{8}", whole.text)


def test_page_shows_no_missing_number(whole):
    labels = " ".join(attrs.get("alt") or "" for attrs in whole.attributes("img"))
    for word in ("nan", "None", "null", "inf", "NaN"):
        assert not re.search(rf"\b{word}\b", whole.text + labels), word


def test_page_has_figures_for_both_themes(whole):
    sources, images = whole.attributes("source"), whole.attributes("img")
    assert len(sources) == len(images) == 4
    for source, image in zip(sources, images, strict=True):
        assert source["media"] == "(prefers-color-scheme: dark)"
        assert source["srcset"] != image["src"]
        assert len(image["alt"] or "") > 80
    assert "prefers-color-scheme: dark" in whole.source[: whole.source.index("</style>")]


def test_page_says_that_a_picture_is_missing(tmp_path):
    pictures = {name: drawn for name, drawn in DRAWN.items() if name != "survival"}
    found = write(tmp_path, make_entries(), make_dataset(), pictures)
    assert len(found.attributes("img")) == 3
    assert found.text.count("This picture could not be drawn") == 1
    assert page.CAPTIONS["survival"] in found.text


def test_page_writes_small_numbers_with_powers_of_ten(tmp_path):
    small = Measurement(4.1e-5, 4.1e-5, 4.1e-5, 1, "Small.")
    found = write(tmp_path, make_entries({"tutorial.max_abs_error": small}), make_dataset())
    assert "4.1 &times; 10<sup>-5</sup></td>" in found.source


def test_every_figure_has_a_caption():
    assert set(page.CAPTIONS) == set(figures.FIGURES)


def test_page_says_what_graphs_lack(whole):
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', whole.source, re.DOTALL)
    cells = [[html.unescape(x) for x in re.findall(r">([^<>]+)</t[hd]>", row)] for row in rows]
    none = "nothing to measure"
    assert cells == [
        ["big graph", "without", "34", "156", "none", "3 (3\xa0nodes)", none, none, "0.25", "0.25"],
        [
            *("big graph", "with", "34", "190", "12 (7\xa0nodes)", "none"),
            *("38.40%", "0.05%", "0.125", "0"),
        ],
        [
            *("small", "without", "9", "20", "1 (2\xa0nodes)", "none"),
            *("25.00%, too few pairs to say", "0%, too few pairs to say"),
            *("no labels", "no labels"),
        ],
        ["small", "with", "9", "29", "none", "none", none, none, "no labels", "no labels"],
    ]


def test_page_says_how_to_redo_it(whole):
    assert "gat-jax reproduce --out results --seed 7 --num-inits 1000" in whole.text
    assert "version jax 9.8.7" in whole.text


def test_page_survives_without_graphs_and_with_never(tmp_path):
    never = Measurement(None, None, None, 1, "Never seen.")
    name = "training.article_start.sgd.entropy_escape_step"
    found = write(tmp_path, make_entries({name: never}), make_dataset().drop_dims("graph"))
    assert "attention stops being uniform never with SGD" in found.text
    assert "never" in found.texts
    assert "No graph was looked at" in found.text
    found = write(tmp_path, make_entries({"training.loss_floor": never}), make_dataset())
    assert "No run ever had equal twins; theory puts the floor at 0.34657 nats." in found.text


def test_page_escapes_what_comes_from_data(tmp_path):
    dataset = make_dataset().assign_coords(graph=[HOSTILE, "small"])
    dataset = dataset.assign_attrs({"device": HOSTILE, HOSTILE: "x"})
    entries = [
        entry | dict.fromkeys(("id", "claim", "rule", "explanation"), HOSTILE)
        if entry["article_claim"] in (3, None) and entry["id"].startswith(("graph", "init.match"))
        else entry
        for entry in make_entries()
    ]
    found = write(tmp_path, entries, dataset)
    assert "<script" not in found.source
    assert not found.attributes("script")
    # A row for each of 3 entries with 4 texts, a graph in two rows, an attribute and its value.
    assert found.text.count("<script>alert('1')</script>") == 3 * 4 + 2 + 2


def test_answer_follows_from_the_numbers(tmp_path, whole):
    assert "Of the eight claims:" in whole.text
    assert "makes the tutorial's twins equal in 50.1% of all cases" in whole.text
    rare = Measurement(0.002, 0.001, 0.003, 1_000_000, "Rarely.")
    changed = {"init.collision.gat.h1": rare, "init.uniform_attention.gat.h1": rare}
    other = write(tmp_path, make_entries(changed), make_dataset())
    assert "makes the tutorial's twins equal in 0.2% of all cases" in other.text
    assert "5. “Random initialisation almost never falls into the special case.” This is wrong" in (
        whole.text
    )
    assert "almost never falls into the special case.” This is right ." in other.text


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["confirmed", "confirmed"], "right"),
        (["confirmed", "refined"], "right, with a correction"),
        (["refined"], "right, with a correction"),
        (["confirmed", "refined", "refuted"], "right in part"),
        (["refined", "refuted"], "mostly wrong"),
        (["refuted", "refuted"], "wrong"),
    ],
)
def test_judgement_is_of_the_set_of_verdicts(verdicts, words):
    assert page.judgement(verdicts) == words
    assert page.judgement(verdicts[::-1]) == words
