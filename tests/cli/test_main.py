"""Help, version, lists; and that help costs no heavy import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import art_ext
from art_ext import presets
from art_ext.cli.options import height_width, number, pairs
from art_ext.evaluation import BACKENDS, SUITES
from art_ext.purifiers import PURIFIERS

ROOT = Path(__file__).parents[2]
HELP = """
import sys
from art_ext.cli import app
try:
    app(["--help"])
finally:
    heavy = {name.split(".")[0] for name in sys.modules} & {"torch", "art", "matplotlib", "numpy"}
    print("heavy:", sorted(heavy))
"""


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("list", "train", "purify", "evaluate", "report"):
        assert command in done.stdout
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("command", ["list", "train", "purify", "evaluate", "report"])
def test_every_command_has_an_example(call: Any, command: str) -> None:
    assert f"Example: art-ext {command} " in call(command, "--help").stdout


def test_version(call: Any) -> None:
    assert call("--version").stdout == f"art-ext {art_ext.__version__}\n"


def test_list_as_json_names_everything(call: Any) -> None:
    found = json.loads(call("list", "--json").stdout)
    assert [p["name"] for p in found["presets"]] == presets.names()
    assert {p["name"]: p["measured"] for p in found["presets"]} == {
        n: presets.describe(n).measured for n in presets.names()
    }
    assert [p["name"] for p in found["purifiers"]] == list(PURIFIERS)
    assert {a["library"]: tuple(a["attacks"]) for a in found["attacks"]} == {k: b.names for k, b in BACKENDS.items()}
    assert [p["name"] for p in found["suites"]] == [p["name"] for p in found["plans"]] == list(SUITES)
    assert list(json.loads(call("list", "suites", "--json").stdout)) == ["suites"]


def test_list_as_tables(call: Any) -> None:
    shown = call("list").stdout
    assert all(name in shown for name in [*presets.names(), *PURIFIERS, *BACKENDS, *SUITES, "arXiv:2110.07801"])


def test_a_missing_library_says_how_to_install_it(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    found = json.loads(call("list", "attacks", "--json").stdout)["attacks"]
    assert "pip install" in next(a["state"] for a in found if a["library"] == "torchattacks")


def test_texts_become_values() -> None:
    assert number("8/255", "--eps") == 8 / 255
    assert number("0.1", "--eps") == 0.1
    found = pairs(["a=3", "b=8/255", "c=text", "d=[1, 2]", "e=true", "f=a=b"])
    assert found == {"a": 3, "b": 8 / 255, "c": "text", "d": [1, 2], "e": True, "f": "a=b"}
    assert height_width("224") == (224, 224)
    assert height_width("6x8") == (6, 8)
    for wrong in ("8/0", "x", ""):
        with pytest.raises(ValueError, match="expected --eps"):
            number(wrong, "--eps")
    for texts in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(ValueError, match="expected"):
            pairs(texts)
