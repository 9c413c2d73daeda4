"""How Sphinx makes the site: `make docs`. The pages on endpoints are written from the OpenAPI document each time."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from http_pages import write  # noqa: E402

from longshore import __version__  # noqa: E402

write(HERE / "reference" / "http")

project = "Longshore"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["misc.highlighting_failure"]  # Pygments knows neither DuckDB's SQL nor ClickHouse's
html_theme = "furo"
html_title = "Longshore"
html_static_path = ["static"]
html_css_files = ["longshore.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_copy_source = False
