"""The page of a training: self-contained, escaped, and complete in spite of what fails."""

import re

import numpy as np
import pytest
from studies.test_page import HOSTILE, Page
from training.test_figures import NAMES, make_dataset

from gat_jax.report import Picture
from gat_jax.training import figures, in_short, page

DRAWN = dict.fromkeys(page.CAPTIONS, (Picture(b"LIGHT", 490, 400, "A title"),) * 2)


def write(tmp_path, dataset, names=tuple(page.CAPTIONS), pictures=DRAWN) -> Page:
    """Write a page whose pictures were drawn before."""
    page.write_page(dataset, in_short(dataset), names, pictures, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def cells(found: Page) -> list[list[str]]:
    """What stands in the rows of the table, its head among them."""
    rows = re.findall(r"<tr>.*?</tr>", found.source, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in rows]


def test_save_writes_every_picture_and_the_page(tmp_path):
    dataset = make_dataset()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_bytes(b"of other numbers")
    assert page.save(dataset, in_short(dataset), tmp_path) == {}
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {f"{name}.png" for name in figures.FIGURES}
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    sources, images = found.attributes("source"), found.attributes("img")
    assert len(sources) == len(images) == len(figures.FIGURES)
    for source, image in zip(sources, images, strict=True):
        assert source["media"] == "(prefers-color-scheme: dark)"
        assert source["srcset"] != image["src"]
        assert len(image["alt"] or "") > 80
    for tag, attrs in found.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed"}
        for name in ("src", "srcset", "href"):
            value = attrs.get(name)
            assert value is None or value.startswith("data:image/png;base64,"), (tag, name)
    for word in ("nan", "None", "null", "inf"):
        assert not re.search(rf"\b{word}\b", found.text), word


def test_a_picture_that_fails_costs_that_picture(tmp_path, monkeypatch):
    def fail(dataset, theme):
        raise RuntimeError("no font")

    monkeypatch.setattr(figures, "FIGURES", {"entropy": fail, "rank": figures.rank})
    dataset = make_dataset()
    missing = page.save(dataset, in_short(dataset), tmp_path)
    assert {name: str(error) for name, error in missing.items()} == {
        "figures/entropy.png": "no font"
    }
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["rank.png"]
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert found.text.count("This picture could not be drawn") == 1
    assert len(found.attributes("img")) == 1
    assert page.CAPTIONS["entropy"] in found.text


def test_without_figures_there_is_a_page_all_the_same(tmp_path, monkeypatch):
    def fail(dataset):
        raise ImportError("matplotlib")

    monkeypatch.setattr(figures, "drawable", fail)
    dataset = make_dataset()
    assert list(page.save(dataset, in_short(dataset), tmp_path)) == ["figures/"]
    assert "72.5%" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_that_fails_leaves_the_pictures(tmp_path, monkeypatch):
    (tmp_path / "report.html").mkdir()
    monkeypatch.setattr(figures, "FIGURES", {"rank": figures.rank})
    dataset = make_dataset()
    assert list(page.save(dataset, in_short(dataset), tmp_path)) == ["report.html"]
    assert (tmp_path / "figures" / "rank.png").is_file()


def test_every_figure_has_a_caption():
    assert set(page.CAPTIONS) == set(figures.FIGURES)


def test_page_has_a_row_for_each_setting(tmp_path):
    found = write(tmp_path, make_dataset())
    assert cells(found) == [
        ["Setting", *("Seeds", "Test accuracy", "sd", "95% interval"), "Validation score", "Steps"],
        [NAMES[0], "6", "72.5%", "1.9%", "70.5% to 74.5%", "72.5%", "100"],
        [NAMES[1], "6", "82.5%", "1.9%", "80.5% to 84.5%", "82.5%", "100"],
    ]
    assert f"the one with the best validation score is {NAMES[1]}." in found.text
    assert "Its test accuracy is 82.5% in the mean of 6 seeds (95% interval 80.5%" in found.text


def test_columns_with_nothing_to_say_are_left_out(tmp_path):
    dataset = make_dataset().copy(deep=True)
    dataset["test_score"][1] = 0.9
    dataset["contested_accuracy"][0] = 0.25
    dataset["status"][1, 2] = 40
    dataset["num_steps"][1, 2] = 40
    found = write(tmp_path, dataset)
    head, first, second = cells(found)
    assert [x for x in head if x not in cells(write(tmp_path, make_dataset()))[0]] == [
        *("Test score", "On contested twins", "On other nodes", "Failed"),
    ]
    assert dict(zip(head, first, strict=True))["On contested twins"] == "25.0%"
    by_label = dict(zip(head, second, strict=True))
    assert by_label["Test score"] == "90.0%"
    assert by_label["On contested twins"] == ""
    assert by_label["Steps"] == "40 to 100"
    assert by_label["Failed"] == "1"
    assert "1 of 12 runs met numbers that are not finite." in found.text
    assert page.OVER_STEPS in found.text


def test_page_survives_runs_without_a_score(tmp_path):
    dataset = make_dataset().isel(setting=[0]).copy(deep=True)
    dataset["test_accuracy"][0, 0] = np.nan
    found = write(tmp_path, dataset, names=())
    assert "Not all of its 6 seeds have a test accuracy" in found.text
    assert "In pictures" not in found.text
    assert "settings, the one" not in found.text


@pytest.mark.parametrize(("number", "is_said"), [(4, False), (5, True)])
def test_captions_say_what_is_left_out(tmp_path, number, is_said):
    found = write(tmp_path, make_dataset(tuple(f"heads={k + 1}" for k in range(number))))
    assert (page.OF_SEVERAL in found.text) == is_said
    assert page.OF_BEST in found.text
    assert page.OVER_STEPS not in found.text


def test_page_escapes_what_comes_from_outside(tmp_path):
    dataset = make_dataset((HOSTILE, NAMES[0])).assign_attrs(
        {"data": HOSTILE, "recipe": HOSTILE, "device": HOSTILE, HOSTILE: "x"}
    )
    dataset["validation_score"][0] = 1.0
    found = write(tmp_path, dataset)
    assert "<script" not in found.source
    assert not found.attributes("script")
    # Title and heading have two each; then the best setting, its row, an attribute and its name.
    assert found.text.count("<script>alert('1')</script>") == 2 * 2 + 1 + 1 + 2


def test_page_says_where_it_comes_from(tmp_path):
    found = write(tmp_path, make_dataset())
    assert "a_recipe on a_graph" in found.text
    assert "device a device" in found.text
    assert "seconds 1,234" in found.text
