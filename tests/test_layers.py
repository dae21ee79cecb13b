"""Who may import whom [DESIGN.md, section 2], read from the source; and what `import art_ext` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import art_ext

ROOT = Path(__file__).resolve().parents[1]

LAYERS = (
    {"files", "images", "moved", "nn", "plain", "plugins"},
    {"attacks", "card"},
    {"training"},
    {"classifiers", "purifiers", "detectors"},
    {"objectives"},
    {"presets", "data"},
    {"defences", "estimators"},
    {"evaluation"},
    {"plots", "cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
BESIDE = {("nn", "images"), ("plots", "cli"), ("cli", "plots")}
"""Allowed although both are of one layer: network blocks normalise images; the last layer may use everything."""
WHEN_CALLED = {("purifiers", "objectives")}
"""Allowed inside functions alone: `Purifier.stages` passes on to the objectives, which stand above it."""
ONLY_UNDER = {
    "art": ("art_ext.defences.", "art_ext.estimators.", "art_ext.evaluation.backends."),
    "torchattacks": ("art_ext.evaluation.backends.",),
    "pyautoattack": ("art_ext.evaluation.backends.",),
    "autoattack": ("art_ext.evaluation.backends.",),
}
NEVER_AT_IMPORT = {"torchvision", "timm", "sklearn", "scipy"}


class Import(NamedTuple):
    name: str
    line: int
    at_import: bool  # runs when the module is imported


def module_of(path: Path) -> str:
    """Dotted name of a file; a package's own name ends in `.__init__`, so that its folder is always the parent."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(source: str, module: str) -> Iterator[Import]:
    """Every import of a module, in functions and under TYPE_CHECKING too; `from a import b` gives a.b."""

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                parents = module.split(".")[: -child.level] if child.level else []
                origin = ".".join([*parents, *([child.module] if child.module else [])])
                yield from (Import(f"{origin}.{alias.name}", child.lineno, at_import) for alias in child.names)
            elif isinstance(child, ast.Call) and (name := _imported_by_call(child)):
                yield Import(name, child.lineno, at_import)
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from visit(child, at_import and not lazy)

    return visit(ast.parse(source), True)


def _imported_by_call(call: ast.Call) -> str:
    """The module of importlib.import_module("...") and __import__("..."), empty for any other call."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function not in {"import_module", "__import__"} or not call.args or not isinstance(call.args[0], ast.Constant):
        return ""
    return str(call.args[0].value)


def violations(source: str, module: str) -> list[str]:
    """One line for each import that the table of layers does not allow."""
    found = []
    for name, line, at_import in imports(source, module):
        top = name.split(".")[0]
        allowed = ONLY_UNDER.get(top)
        if allowed and not module.startswith(allowed):
            found.append(f"{module}:{line} imports {name}, which belongs under {', '.join(allowed)}")
        if top in NEVER_AT_IMPORT and at_import:
            found.append(f"{module}:{line} imports {name} when it is imported itself")
        if top == "art_ext" and (reason := _upwards(module, name, at_import)):
            found.append(f"{module}:{line} imports {name}: {reason}")
    return found


def _upwards(module: str, name: str, at_import: bool) -> str:
    here, there = module.split(".")[1:], name.split(".")[1:]
    if not there or there == ["__version__"] or here[0] == "__main__":
        return ""
    if here == ["__init__"]:
        return "import art_ext loads nothing"
    if there[0] not in LEVEL or here[0] not in LEVEL:
        return "this folder stands in no layer"
    if here[0] == there[0]:
        return _between_methods(here, there)
    if LEVEL[there[0]] < LEVEL[here[0]] or (here[0], there[0]) in BESIDE:
        return ""
    if (here[0], there[0]) in WHEN_CALLED and not at_import:
        return ""
    return f"layer {LEVEL[here[0]]} on layer {LEVEL[there[0]]}"


def _between_methods(here: list[str], there: list[str]) -> str:
    """A purifier knows its own folder, base and saving; those know none. The index of the folder lists all."""
    if here[0] != "purifiers" or here[1] == "__init__":
        return ""
    below = ("saving", "base")  # in the order in which they stand on each other
    known = {*below[: below.index(here[1])]} if here[1] in below else {*below, here[1]}
    return "" if len(there) > 1 and there[1] in known else "a method never imports another method"


FILES = sorted((ROOT / "art_ext").rglob("*.py"))


def test_every_import_goes_downwards() -> None:
    assert len(FILES) > 40  # the folder was found
    assert [v for path in FILES for v in violations(path.read_text("utf-8"), module_of(path))] == []


def test_every_file_stands_in_a_layer() -> None:
    assert {module_of(path).split(".")[1] for path in FILES} <= {*LEVEL, "__init__", "__main__"}


def test_the_reader_sees_the_imports_that_are_there() -> None:
    seen = {(module_of(p), i.name) for p in FILES for i in imports(p.read_text("utf-8"), module_of(p))}
    assert ("art_ext.attacks.losses", "art_ext.nn.losses.per_sample_mse") in seen
    assert ("art_ext.evaluation.backends.art", "art.attacks.evasion") in seen  # in a function
    assert ("art_ext.purifiers.base", "art_ext.training.Objective") in seen  # under TYPE_CHECKING


def circles(sources: dict[str, str]) -> list[list[str]]:
    """The groups of files that lead to each other by what they import when they are imported or type-checked.

    Args:
        sources: of each file, by its dotted name, see `module_of`.
    """

    def file_of(name: str) -> str:
        found = name
        while found and found not in sources and f"{found}.__init__" not in sources:
            found = found.rpartition(".")[0]
        return found if found in sources else f"{found}.__init__"

    leads = {
        module: {file_of(i.name) for i in imports(source, module) if i.at_import and i.name.startswith("art_ext")}
        for module, source in sources.items()
    }
    reached = {module: set(targets) - {module} for module, targets in leads.items()}
    changed = True
    while changed:
        changed = False
        for found in reached.values():
            further = set().union(*(reached.get(t, set()) for t in found)) - found
            found |= further
            changed = changed or bool(further)
    groups = {
        tuple(sorted(t for t in found if m in reached.get(t, set()))) for m, found in reached.items() if m in found
    }
    return sorted([list(group) for group in groups])


def test_no_file_leads_back_to_itself() -> None:
    assert circles({module_of(path): path.read_text("utf-8") for path in FILES}) == []


def test_circles_are_seen() -> None:
    sources = {
        "art_ext.a.__init__": "from art_ext.a.one import x",
        "art_ext.a.one": "if TYPE_CHECKING:\n    from art_ext.a.two import y",
        "art_ext.a.two": "from art_ext.a.three import z\ndef f():\n    from art_ext.b import g",
        "art_ext.a.three": "import art_ext.a.one",
        "art_ext.b": "from art_ext.a.two import y",
    }
    assert circles(sources) == [["art_ext.a.one", "art_ext.a.three", "art_ext.a.two"]]
    sources["art_ext.a.three"] = "def f():\n    import art_ext.a.one"
    assert circles(sources) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("art_ext.images", "import art_ext.nn"),
        ("art_ext.nn.blocks", "from art_ext.attacks import pgd"),
        ("art_ext.attacks.pgd", "from art_ext.training import fit"),
        ("art_ext.attacks.pgd", "from art_ext import training"),
        ("art_ext.attacks.pgd", "import torch, art_ext.training.loop"),
        ("art_ext.attacks.pgd", "from ..training import fit"),
        ("art_ext.attacks.pgd", "from .. import training"),
        ("art_ext.attacks.__init__", "from ..training import fit"),
        ("art_ext.attacks.pgd", "def f():\n    from art_ext.training import fit"),
        ("art_ext.attacks.pgd", "if TYPE_CHECKING:\n    from art_ext.training import fit"),
        ("art_ext.attacks.pgd", "try:\n    import art_ext.training\nexcept ImportError:\n    pass"),
        ("art_ext.attacks.pgd", "importlib.import_module('art_ext.training')"),
        ("art_ext.training.loop", "from art_ext.purifiers.rdp import RDP"),
        ("art_ext.purifiers.base", "from art_ext.objectives import stages"),
        ("art_ext.purifiers.base", "if TYPE_CHECKING:\n    from art_ext.objectives import RDPObjective"),
        ("art_ext.training.loop", "def f():\n    from art_ext.objectives import stages"),
        ("art_ext.classifiers.cnn", "def f():\n    from art_ext.objectives import stages"),
        ("art_ext.classifiers.cnn", "from art_ext.purifiers import RDP"),
        ("art_ext.purifiers.rdp.purifier", "from art_ext.classifiers import SmallCNN"),
        ("art_ext.purifiers.rdp.purifier", "import art_ext.purifiers.dir"),
        ("art_ext.purifiers.rdp.purifier", "from art_ext.purifiers import CDVAE"),
        ("art_ext.purifiers.rdp.__init__", "from ..cdvae import CDVAE"),
        ("art_ext.purifiers.base", "from art_ext.purifiers.rdp import RDP"),
        ("art_ext.data.arrays", "from art_ext.presets import load"),
        ("art_ext.presets.catalogue", "from art_ext.evaluation import Report"),
        ("art_ext.defences.trainer", "from art_ext.evaluation import Report"),
        ("art_ext.evaluation.page", "from art_ext.plots import png"),
        ("art_ext.__init__", "from art_ext.images import Normalize"),
        ("art_ext.newcomer", "from art_ext.images import Normalize"),
        ("art_ext.plots", "from art_ext.newcomer import anything"),
        ("art_ext.purifiers.base", "import art"),
        ("art_ext.evaluation.harness", "def f():\n    from art.attacks import evasion"),
        ("art_ext.plots", "import art.utils"),
        ("art_ext.defences.trainer", "import torchattacks"),
        ("art_ext.evaluation.harness", "from autoattack import AutoAttack"),
        ("art_ext.cli", "from pyautoattack import AutoAttack"),
        ("art_ext.nn.features", "import torchvision"),
        ("art_ext.data.folder", "try:\n    from torchvision.io import read_image\nexcept ImportError:\n    pass"),
        ("art_ext.classifiers.resnet", "class A:\n    import timm"),
        ("art_ext.evaluation.backends.torchattacks", "from torchvision import models"),
    ],
)
def test_refused(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("art_ext.nn.features", "from art_ext.images import Normalize"),
        ("art_ext.attacks.losses", "from art_ext.nn.losses import per_sample_mse"),
        ("art_ext.attacks.pgd", "from .norms import Norm"),
        ("art_ext.purifiers.__init__", "from art_ext.purifiers.rdp import RDP"),
        ("art_ext.purifiers.base", "def f():\n    from art_ext.objectives import stages"),
        ("art_ext.objectives.rdp", "from art_ext.purifiers.rdp import RDP\nfrom art_ext.training import Objective"),
        ("art_ext.purifiers.rdp.purifier", "from art_ext.purifiers.base import Purifier\nfrom . import network"),
        ("art_ext.evaluation.report", "from art_ext.training import replacing"),
        ("art_ext.evaluation.harness", "import art_ext\nfrom art_ext import __version__"),
        ("art_ext.evaluation.backends.autoattack", "def f():\n    import autoattack, pyautoattack"),
        ("art_ext.defences.trainer", "from art.defences.trainer import Trainer"),
        ("art_ext.nn.features", "def f():\n    from torchvision.models import vgg16"),
        ("art_ext.cli", "from art_ext import plots, presets"),
        ("art_ext.images", "import artful, torch\nfrom artemis import art"),
    ],
)
def test_allowed(module: str, source: str) -> None:
    assert violations(source, module) == []


IMPORT = """
import sys, time
import torch
start = time.perf_counter()
import art_ext
print(time.perf_counter() - start)
print(*(name for name in sys.modules if name.split(".")[0] in {"art", "torchattacks", "torchvision", "matplotlib"}))
"""


def test_import_is_cheap_and_leaves_art_alone() -> None:
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
        )
        elapsed, loaded = done.stdout.split("\n")[:2]
        assert loaded == ""
        seconds.append(float(elapsed))
        if seconds[-1] < 0.3:
            break  # the best of three can only be smaller
    assert min(seconds) < 0.3


PURIFIER = """
import sys
import torch
from art_ext.purifiers import RDP
heavy = ("lightning", "art_ext.training", "art_ext.objectives")
print(*sorted(name for name in sys.modules if name.startswith(heavy)))
"""


def test_a_purifier_is_imported_without_what_trains_it() -> None:
    done = subprocess.run([sys.executable, "-c", PURIFIER], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


NAMES = """
import sys
import art_ext
print(*dir(art_ext))
print("torch" in sys.modules)
print(art_ext.purifiers.RDP.name)
try:
    art_ext.purifier
except AttributeError as error:
    print(error)
"""


def test_public_modules_are_shown_and_loaded_when_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NAMES], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    shown, torch_loaded, name, error = done.stdout.splitlines()
    assert {"attacks", "defences", "evaluation", "presets", "purifiers", "__version__"} <= set(shown.split())
    assert "TYPE_CHECKING" not in shown
    assert (torch_loaded, name) == ("False", "rdp")
    assert error.startswith("expected one of attacks, ")
    assert error.endswith("got art_ext.purifier")
    folders = {p.stem for p in (ROOT / "art_ext").iterdir() if p.suffix in ("", ".py") and not p.stem.startswith("_")}
    assert set(art_ext.__all__) <= folders
