"""The documentation as a site: `make docs` writes it to `site/`, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import art_ext

HERE = Path(__file__).parent
COPIED = HERE / "copied"
"""Pages that lie elsewhere in the repository, copied when the site is built."""

project = "art_ext"
author = copyright = "The art_ext authors"
version = release = art_ext.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"art_ext {release}"
html_static_path: list[str] = []
exclude_patterns = ["site"]
nb_execution_mode = "off"  # notebooks are shown as they were executed
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
napoleon_use_ivar = True
suppress_warnings = ["mystnb.unknown_mime_type"]


def _copied() -> None:
    """Puts notebooks, results and the changelog beside the pages; links in them stay within what is copied."""
    root = HERE.parent
    shutil.rmtree(COPIED, ignore_errors=True)
    (COPIED / "results").mkdir(parents=True)
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        text = notebook.read_text("utf-8").replace("](../results/", "](results/")
        (COPIED / notebook.name).write_text(text, "utf-8")
    for page in sorted((root / "results").glob("*.*")):
        if page.suffix in (".md", ".png", ".json"):
            shutil.copy(page, COPIED / "results" / page.name)
    text = (root / "CHANGELOG.md").read_text("utf-8").replace("](docs/", "](../")
    (COPIED / "changelog.md").write_text(text, "utf-8")
    for page in (COPIED / "results").glob("*.md"):
        page.write_text(page.read_text("utf-8").replace("](../docs/", "](../../"), "utf-8")


_copied()
