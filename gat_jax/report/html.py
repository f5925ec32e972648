"""HTML pages from the templates of this folder: self-contained, and escaped.

A page is one file that needs no network: its style stands in it, and so do its pictures. Every
string that a template is given is escaped; what is markup already says so by its type, `Markup`.
"""

import base64
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from gat_jax.report import numbers

TEMPLATES = Path(__file__).parent / "templates"


class Picture(NamedTuple):
    """A figure as bytes of a PNG file, its size in CSS pixels, and the title it bears."""

    png: bytes
    width: int
    height: int
    title: str


def render_page(template: str, **values: Any) -> str:
    """Fill in a template.

    Args:
      template: name of a file in `templates/`.
      values: what its names stand for. Beside them a template knows the functions of `numbers` as
        filters, and `number` and `interval` with powers of ten in superscript.

    Returns:
      The page.

    Raises:
      jinja2.TemplateError: if the template uses a name that has no value.
    """
    return _environment().get_template(template).render(**values)


def png_uri(png: bytes) -> str:
    """Return a picture as the address of itself, to stand in a page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def with_powers(text: str) -> Markup:
    """Return text whose very small numbers, such as "4.1e-05", are written with powers of ten."""
    escaped = str(Markup.escape(text))
    return Markup(
        re.sub(
            r"\b(\d(?:\.\d+)?)e([+-]\d+)\b",
            lambda found: f"{found[1]} &times; 10<sup>{int(found[2])}</sup>",
            escaped,
        )
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a misspelt name is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": numbers.count,
        "percent": numbers.percent,
        "number": lambda *values: with_powers(numbers.number(*values)),
        "interval": lambda *values: with_powers(numbers.interval(*values)),
        "png_uri": png_uri,
    }
    return environment
