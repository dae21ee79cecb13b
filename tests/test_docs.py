"""Links in pages lead somewhere; blocks of Python on pages parse; the site builds without a warning."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from art_ext.cli import app

ROOT = Path(__file__).parents[1]
MADE = ROOT / "docs" / "copied"
PAGES = sorted(page for pattern in ("*.md", "docs/*.md", "results/*.md") for page in ROOT.glob(pattern))
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
FENCED = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"^(?: {4}|.* )?(art-ext (?:train|purify|evaluate|report|compare|verify|list) .*)$", flags=re.MULTILINE
)


def dead(page: Path) -> list[str]:
    """Links of a page to files of the repository that are not there; what the site copies is where it comes from."""
    found = []
    for target, anchor in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        if not target.startswith(("http://", "https://", "mailto:")):
            place = page.parent / target if target else page
            if place.is_relative_to(MADE):
                place = ROOT / str(place.relative_to(MADE)).replace("changelog.md", "CHANGELOG.md")
            if not place.exists() or (place.suffix == ".md" and anchor and anchor[1:] not in anchors(place)):
                found.append(target + anchor)
    return found


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, in small letters with hyphens, as GitHub and MyST have them."""
    headings = re.findall(r"^#{1,6} (.+)$", FENCED.sub("", page.read_text("utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert dead(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    text = (
        "# A b: c\n\n[a](missing.md) [b](page.md#x) [c](https://example.org/x) [d](page.md#a-b-c) [e](#a-b-c) [f](#g)"
    )
    (tmp_path / "page.md").write_text(text + "\n```python\nx[0](y)\n```\n")
    assert dead(tmp_path / "page.md") == ["missing.md", "page.md#x", "#g"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_parses(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
        ast.parse(block)


# The guide's blocks run in test_examples, where what they give is looked at.
BLOCKS = [page for page in PAGES if "```python" in page.read_text("utf-8") and page.stem not in ("guide", "README")]
QUICK = ("methods", "training")


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=() if p.stem in QUICK else pytest.mark.slow, id=p.stem) for p in BLOCKS]
)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(ROOT / "results")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(block, page.name, "exec"), names)


def commands(page: Path) -> list[list[str]]:
    """The words of each `art-ext COMMAND ...` in the indented blocks of a page."""
    text = FENCED.sub("", page.read_text("utf-8")).replace("\\\n", " ")
    lines = [line.split("#")[0] for line in text.splitlines() if line.startswith("    ")]
    found = [shlex.split(match) for line in lines for match in COMMAND.findall(line)]
    return [words[1:] for words in found if "..." not in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_have_the_options_that_pages_give_them(page: Path, tmp_path: Path) -> None:
    from typer.main import get_command

    group: Any = get_command(app)
    for name, *words in commands(page):
        command = group.get_command(group.make_context("art-ext", [name], resilient_parsing=True), name)
        if not any(word.endswith(".toml") for word in words):  # an evaluation as a file is read at once
            assert command.make_context(name, words).params, words  # raises where an option is not there


def test_commands_are_found() -> None:
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 12
    assert {words[0] for words in found} >= {"train", "evaluate", "report", "purify", "list"}


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
        "--no-first-run",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
    ]
    shown = subprocess.run([browser, *flags, "--dump-dom", page], capture_output=True, text=True, check=False).stdout
    assert "evaluation.html" in shown
