"""Pages from templates: escaped, complete, and in one file."""

import jinja2
import pytest

from gat_jax import report
from gat_jax.report import html


@pytest.fixture
def templates(tmp_path, monkeypatch):
    """A folder of templates instead of the package's own."""
    monkeypatch.setattr(html, "TEMPLATES", tmp_path)
    html._environment.cache_clear()
    yield tmp_path
    html._environment.cache_clear()


def test_render_page_escapes_what_it_is_given(templates):
    (templates / "x.html").write_text('<p title="{{ text }}">{{ text }}</p>')
    page = report.render_page("x.html", text="<b> & \"'")
    assert "<b>" not in page
    assert page.count("&lt;b&gt; &amp; &#34;&#39;") == 2


def test_render_page_refuses_a_name_without_a_value(templates):
    (templates / "x.html").write_text("<p>{{ missing }}</p>")
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        report.render_page("x.html")


def test_filters_write_numbers_in_superscript_and_escape_the_rest(templates):
    (templates / "x.html").write_text(
        "{{ 4.1e-5 | number }} {{ 0.5 | number }} {{ 0.25 | percent }}"
    )
    page = report.render_page("x.html")
    assert page == "4.1 &times; 10<sup>-5</sup> 0.5 25%"
    assert html.with_powers("<1e-05") == "&lt;1 &times; 10<sup>-5</sup>"


def test_templates_of_the_package_hold_no_address_of_the_network():
    files = sorted(html.TEMPLATES.iterdir())
    assert {path.suffix for path in files} >= {".html", ".css"}
    for path in files:
        assert "http" not in path.read_text(encoding="utf-8").replace("http-equiv", ""), path.name


def test_png_uri_holds_the_picture():
    assert report.png_uri(b"PNG") == "data:image/png;base64,UE5H"
