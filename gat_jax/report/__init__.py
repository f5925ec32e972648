"""How results look: numbers as text, HTML pages, and figures.

The module `style`, for figures, is not re-exported: it imports matplotlib, which takes a second and
may fail where the other two work. Those who draw import it themselves.
"""

from gat_jax.report.html import Picture, png_uri, render_page
from gat_jax.report.matplotlib_cache import prepare_matplotlib
from gat_jax.report.numbers import (
    count,
    interval,
    number,
    percent,
    percent_range,
    short,
)
from gat_jax.report.pictures import save_pictures

__all__ = [
    "Picture",
    "count",
    "interval",
    "number",
    "percent",
    "percent_range",
    "png_uri",
    "prepare_matplotlib",
    "render_page",
    "save_pictures",
    "short",
]
