"""How Sphinx makes the site: `make docs`. The page on HTTP is written anew from the OpenAPI document each time."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from http_page import write  # noqa: E402

from longshore import __version__  # noqa: E402

write(HERE / "reference" / "http.md")

project = "Longshore"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]  # Pygments knows neither DuckDB's SQL nor ClickHouse's
html_theme = "alabaster"
html_theme_options = {"description": "A task service for data exports", "fixed_sidebar": True, "page_width": "1100px"}
html_show_sourcelink = False
