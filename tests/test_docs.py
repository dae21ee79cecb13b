"""Links in pages lead somewhere; blocks of Python on pages parse; the site builds without a warning."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MADE = ROOT / "docs" / "copied"
PAGES = sorted(page for pattern in ("*.md", "docs/*.md", "results/*.md") for page in ROOT.glob(pattern))
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def dead(page: Path) -> list[str]:
    """Links of a page to files of the repository that are not there; what the site copies is where it comes from."""
    found = []
    for target, _ in LINK.findall(page.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            place = page.parent / target
            if place.is_relative_to(MADE):
                place = ROOT / str(place.relative_to(MADE)).replace("changelog.md", "CHANGELOG.md")
            if not place.exists():
                found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("[a](missing.md) [b](page.md#x) [c](https://example.org/x)")
    assert dead(tmp_path / "page.md") == ["missing.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_parses(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
        ast.parse(block)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_can_be_searched(tmp_path: Path) -> None:
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("needs sphinx: make docs installs it")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        ROOT / "docs",
        tmp_path / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("index", "guide", "evaluation", "api", "faq", "copied/01_defend_with_rdp", "copied/results/README"):
        assert (tmp_path / "site" / f"{name}.html").is_file()
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("the search needs a browser")
    page = f"file://{tmp_path / 'site' / 'search.html'}?q=worst_case"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--virtual-time-budget=20000",
    ]
    shown = subprocess.run([browser, *flags, "--dump-dom", page], capture_output=True, text=True, check=False).stdout
    assert "evaluation.html" in shown
