"""The documentation as a site: `make docs` writes it to `site/`, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import latex2mathml.converter
from docutils.nodes import SkipNode
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

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
html_math_renderer = "mathml"
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


def _inline(translator: Any, node: Any) -> None:
    """Writes a formula as MathML, which browsers show without a script from elsewhere."""
    translator.body.append(latex2mathml.converter.convert(node.astext()))
    raise SkipNode


def _block(translator: Any, node: Any) -> None:
    """Writes a formula on a line of its own."""
    translator.body.append(latex2mathml.converter.convert(node.astext(), display="block"))
    raise SkipNode


def _signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> Any:
    """Gives a class whose `__new__` takes anything the arguments of its constructor."""
    if what != "class" or not (signature or "").startswith("(*args"):
        return None
    return stringify_signature(signature_of(obj.__init__, bound_method=True), show_return_annotation=False), returns


def setup(app: Any) -> None:
    """Registers how formulas and signatures are shown."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("autodoc-process-signature", _signature)


_copied()
