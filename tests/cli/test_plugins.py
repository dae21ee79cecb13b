"""A purifier and suites of another package, installed by pip: listed, trained, evaluated, saved and loaded."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

TINY = '''
import torch
from torch import nn

from art_ext.evaluation import Attack, Knowledge, Suite
from art_ext.purifiers import Purifier
from art_ext.training import Objective


class Towards(Objective):
    def __init__(self, purifier, target):
        super().__init__()
        self.purifier, self.target = purifier, target

    def players(self):
        return {"scale": [self.purifier.scale]}

    def terms(self, player, x, x_adv, y):
        return {"distance": (self.purifier.scale - self.target) ** 2}


class Tiny(Purifier):
    """Images times a number."""

    name = "tiny"
    paper = "arXiv:0000.00000"

    def __init__(self, start: float = 1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))

    def purify(self, x):
        return self.scale * x

    def stages(self, classifier=None, *, target: float = 0.5):
        return [Towards(self, target)]


class Grey(Purifier):
    """Images halfway to grey; nothing to train."""

    name = "grey"
    paper = ""

    def purify(self, x):
        return 0.5 * x + 0.25


def one_step(threat, *, classes, channels):
    attack = Attack("native", "PGD", {"steps": 1})
    return Suite((attack,), {"knowledge": (Knowledge.FULL,), "eot_samples": 1, "repeats": 1, "probe": None})


def no_suite(threat, *, classes, channels):
    return 3


class NoPurifier:
    pass


class NoPaper(Purifier):
    name = "no_paper"

    def purify(self, x):
        return x
'''
ENTRIES = """
[art_ext.purifiers]
tiny = tiny_purifier:Tiny
grey = tiny_purifier:Grey
missing = tiny_missing:Tiny
raises = tiny_raises:Tiny
nothing = tiny_purifier:Nothing
no_purifier = tiny_purifier:NoPurifier
no_paper = tiny_purifier:NoPaper
rdp = tiny_purifier:Tiny
twice = tiny_purifier:Tiny

[art_ext.suites]
one_step = tiny_purifier:one_step
no_suite = tiny_purifier:no_suite
lost_suite = tiny_missing:one_step
smoke = tiny_purifier:one_step
"""
SECOND = """
[art_ext.purifiers]
twice = tiny_purifier:Grey
"""
RUN = """
import json, sys
from typer.testing import CliRunner
from art_ext.cli import app
import art_ext.plots
art_ext.plots.figures = lambda report: {}
found = []
for command in json.load(sys.stdin):
    done = CliRunner().invoke(app, command)
    imported = sorted(name for name in sys.modules if name.startswith("tiny_"))
    found.append([done.exit_code, done.stdout, done.stderr, imported])
print(json.dumps(found))
"""
LOAD = """
import json, sys, torch
from art_ext.cli.purifiers import load_purifier
((folder,),) = json.load(sys.stdin)
found = load_purifier(folder, device=torch.device("cpu"))
from tiny_purifier import Tiny
moved = 0.5 < float(found.scale) == float(Tiny.from_pretrained(folder).scale)
print(json.dumps([type(found).__name__, moved]))
"""


def wheel(folder: Path, name: str, files: dict[str, str], entries: str) -> Path:
    """A wheel, as a build would write it."""
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entries,
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    made = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]))
    return made


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the packages into."""
    root = tmp_path_factory.mktemp("plugins")
    modules = {"tiny_purifier.py": TINY, "tiny_raises.py": "raise RuntimeError('no luck')\n"}
    wheels = [wheel(root, "tiny_purifier", modules, ENTRIES), wheel(root, "tiny_second", {}, SECOND)]
    site = root / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(site), *map(str, wheels)], check=True, capture_output=True)
    return site


def run(site: Path, *commands: tuple[object, ...], code: str = RUN) -> Any:
    """Exit code, stdout, stderr and what is imported after each command, in one process that has the packages."""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([[str(w) for w in c] for c in commands]), text=True,
        capture_output=True, check=False, env={"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_listed_by_name_without_being_imported(installed: Path) -> None:
    commands = [("list", "purifiers", "--json"), ("list", "suites", "--json"), ("list",), ("train", "--help")]
    purifiers, suites, tables, helped = run(installed, *commands)
    assert [code for code, *_ in (purifiers, suites, tables, helped)] == [0] * 4
    assert helped[3] == []  # imported
    rows = {(row["name"], row["from"]): row["class"] for row in json.loads(purifiers[1])["purifiers"]}
    assert rows["rdp", "art_ext"] == "RDP"
    assert rows["tiny", "tiny_purifier 1.0"] == "tiny_purifier:Tiny"
    assert ("rdp", "tiny_purifier 1.0 (not to be had: the name is taken by art_ext)") in rows
    both = "(not to be had: the name is offered by tiny_purifier 1.0 and tiny_second 1.0)"
    assert {("twice", f"tiny_purifier 1.0 {both}"), ("twice", f"tiny_second 1.0 {both}")} <= rows.keys()
    named = {row["name"]: row["from"] for row in json.loads(suites[1])["suites"]}
    assert (named["one_step"], named["full"]) == ("tiny_purifier 1.0", "art_ext")
    assert "tiny" in tables[1]
    assert "Of other packages: " in helped[1]


def test_trained_evaluated_saved_and_loaded(installed: Path, files: Any, tmp_path: Path) -> None:
    out, data = tmp_path / "run", ("--data", files.npz, "--classifier", files.spec("make"), "--device", "cpu")
    evaluate = ("evaluate", *data, "--suite", "one_step", "--images", 4)
    settings = ("--set", "target=0.75", "--set", "start=0.5")
    done = run(
        installed,
        ("train", "tiny", *data, "--epochs", 1, *settings, "--out", out),
        (*evaluate, "--purifier", out, "--out", tmp_path / "report"),
        (*evaluate, "--purifier", "grey", "--out", tmp_path / "grey"),
        ("purify", "--purifier", out, files.folder, tmp_path / "purified"),
    )
    assert [code for code, *_ in done] == [0] * 4, done
    assert {p.name for p in out.iterdir()} >= {"README.md", "config.json", "model.safetensors", "training.json"}
    assert "from tiny_purifier import Tiny" in (out / "README.md").read_text("utf-8")
    for name in ("report", "grey"):
        assert json.loads((tmp_path / name / "report.json").read_text("utf-8"))["suite"] == "one_step"
    (out / "training.json").unlink()  # the method is found out then
    assert run(installed, (out,), code=LOAD) == ["Tiny", True]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["purifier 'missing' of tiny_purifier 1.0 (tiny_missing:Tiny) to be importable", "ModuleNotFound"]),
        ("raises", ["'raises' of tiny_purifier 1.0", "RuntimeError: no luck"]),
        ("nothing", ["'nothing' of tiny_purifier 1.0", "AttributeError"]),
        ("no_purifier", ["tiny_purifier:NoPurifier of tiny_purifier 1.0 as a class of purifiers", "got NoPurifier"]),
        ("no_paper", ["tiny_purifier:NoPaper of tiny_purifier 1.0 to set paper"]),
        ("twice", ["offered by tiny_purifier 1.0 and tiny_second 1.0"]),
        ("tinny", ["did you mean 'tiny'?"]),
    ],
)
def test_what_is_broken_is_told_when_it_is_asked_for(broken: Any, name: str, words: list[str]) -> None:
    code, _, stderr, _ = broken[name]
    assert code == 2
    assert stderr.startswith("error: expected ")
    assert stderr.count("\n") == 1
    assert all(word in stderr for word in words)


@pytest.fixture(scope="module")
def broken(installed: Path, files: Any) -> dict[str, Any]:
    """What `art-ext train` says of each broken name."""
    names: tuple[str, ...] = ("missing", "raises", "nothing", "no_purifier", "no_paper", "twice", "tinny")
    rest = ("--data", files.npz, "--classifier", files.spec("make"), "--out", files.root / "never")
    return dict(zip(names, run(installed, *(("train", name, *rest) for name in names)), strict=True))


def test_suites_and_purifiers_that_cannot_be_had(installed: Path, files: Any) -> None:
    rest = ("--data", files.npz, "--classifier", files.spec("make"), "--out", files.root / "never", "--images", 4)
    lost, none, untrained, own, option = run(
        installed,
        ("evaluate", *rest, "--suite", "lost_suite"),
        ("evaluate", *rest, "--suite", "no_suite"),
        ("evaluate", *rest, "--purifier", "tiny"),
        ("evaluate", *rest, "--purifier", "raises"),
        ("train", "tiny", *rest[:-2], "--learning-rate", 0.1),
    )
    assert "suite 'lost_suite' of tiny_purifier 1.0" in lost[2]
    assert "tiny_purifier:no_suite of tiny_purifier 1.0 to give a suite" in none[2]
    assert (
        "expected a trained purifier, got the method 'tiny': say the folder that art-ext train tiny wrote"
        in (untrained[2])
    )
    assert "RuntimeError: no luck" in own[2]
    assert [code for code, *_ in (lost, none, untrained, own, option)] == [2] * 5
    assert "of its training out of target; got 'learning_rate'" in option[2]
