"""Names of files, presets, attacks and models reach the terminal as plain text."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from art_ext.cli import app
from art_ext.cli.display import table
from art_ext.cli.terminal import shown

NASTY = "\x1b[31mred\x1b]0;title\x07 [bold]|<script>\n\u202egnp\u2028\udcff\x9b2J"
"""Colour, the window's title, a bell, markup, a line end, a change of direction, a byte that is no text, C1."""
PLAIN = r"\x1b[31mred\x1b]0;title\x07 [bold]|<script>\n\u202egnp\u2028\udcff\x9b2J"
ALLOWED = "\n"


def tame(text: str) -> bool:
    """Whether nothing in the output is more than printable text."""
    return all(c.isprintable() or c in ALLOWED for c in text)


def test_what_a_terminal_would_obey_or_hide_is_spelt_out() -> None:
    assert shown(NASTY) == PLAIN
    assert shown(Path("naïve Ünïcode 図 é.png")) == "naïve Ünïcode 図 é.png"
    assert shown(3) == "3"


def test_a_table_holds_names_as_they_are() -> None:
    out = io.StringIO()
    Console(file=out, width=300, force_terminal=True, color_system=None).print(
        table(f"title {NASTY}", [f"head {NASTY}"], [[f"cell {NASTY}"]])
    )
    for place in ("title", "head", "cell"):
        assert f"{place} {PLAIN}" in out.getvalue()


def test_files_that_could_not_be_purified(call: Any, files: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in\x1b[2J"
    folder.mkdir()
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(folder / "good.png")
    (folder / "bad\x1b[31m\nerror: forged.png").write_text("no image")
    out = tmp_path / "out\x1b[2J"
    result = call("purify", "--purifier", files.rdp, folder, out, code=1)
    assert tame(result.output)
    assert r"error: bad\x1b[31m\nerror: forged.png: " in result.stderr
    assert not any(line.startswith("error: forged") for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    "option", ["--classifier", "--purifier", "--data", "--suite", "--knowledge", "--eps", "--attack"]
)
def test_a_wrong_value_is_quoted_tamely(refused: Any, changed: Any, files: Any, tmp_path: Path, option: str) -> None:
    command = ("evaluate", "--classifier", files.spec("make"), "--purifier", files.rdp, "--data", files.npz)
    line = refused(*changed(command, option, "a\x1b[31m\x07b"), "--out", tmp_path / "out")
    assert tame(line)
    assert r"a\x1b[31m\x07b" in line


def test_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.cli.listing._purifiers", lambda: [{"name": "größe"}])
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    app(["list", "purifiers"], standalone_mode=False)
    out.flush()
    assert rb"gr\xf6\xdfe" in out.buffer.getvalue()  # type: ignore[attr-defined]


def test_calls_that_the_parser_refuses(call: Any) -> None:
    for arguments in (["--\x1b[31m"], ["\x1b[31m"], ["list", "\x1b[31m"], ["evaluate", "--\x1b[31m"]):
        result = call(*arguments, code=2)
        assert tame(result.output)
        assert r"\x1b[31m" in result.stderr


@pytest.fixture(autouse=True, scope="module")
def _no_pictures() -> Iterator[None]:
    """They take most of the time of a tiny evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("art_ext.plots.figures", lambda report: {})
        yield


@pytest.fixture(scope="module")
def evaluated(call: Any, files: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation whose purifier, data, attack and folder have such names."""
    folder = tmp_path_factory.mktemp("names")
    rdp, data, out = folder / "r\x1b[31m[bold]", folder / "d\x1b[31m.npz", folder / "o\x1b[31m"
    shutil.copytree(files.rdp, rdp)
    shutil.copy(files.npz, data)
    attack = "native:FGSM:label=a\x1b[31m[/bold]\nb"
    command = ("--classifier", files.spec("make"), "--purifier", rdp, "--data", data, "--attack", attack)
    said = call("evaluate", *command, "--knowledge", "full", "--images", 4, "--out", out)
    assert tame(said.output)
    assert r"r\x1b[31m[bold]" in said.stdout
    assert r"a\x1b[31m[/bold]\nb" in said.stdout
    return out


def test_names_of_a_report(call: Any, evaluated: Path, tmp_path: Path) -> None:
    again = call("report", evaluated / "report.json", "--out", tmp_path / "again\x1b[31m")
    assert tame(again.output)
    assert r"r\x1b[31m[bold]" in again.stdout


@pytest.mark.parametrize("part", ["threat", "cells", "provenance", "checks"])
def test_a_report_whose_parts_are_something_else(call: Any, evaluated: Path, tmp_path: Path, part: str) -> None:
    whole = json.loads((evaluated / "report.json").read_text())
    for wrong in ({}, [], None, "\x1b[31m"):
        bad = tmp_path / "bad.json"
        bad.write_text(json.dumps(whole | {part: wrong}))
        result = call("report", bad, "--out", tmp_path / "again", code=None)
        assert result.exit_code in (0, 2), result.output
        assert tame(result.output)
        if result.exit_code:
            assert f"{bad}" in result.stderr
