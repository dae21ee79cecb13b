"""Who may import whom: a method imports the machinery, never the other way round, and ART stays at the rim."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "art_ext"
LAYERS = [
    {"images", "nn"},
    {"attacks"},
    {"training"},
    {"classifiers", "purifiers", "detectors"},
    {"presets", "data"},
    {"defences", "estimators"},
    {"evaluation"},
    {"plots", "cli"},
]
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")
RIM = {"art": {"defences", "estimators", "evaluation/backends"}}
RIM |= {name: {"evaluation/backends"} for name in ("torchattacks", "pyautoattack", "autoattack")}


def imports(path: Path, *, everywhere: bool) -> set[str]:
    """Dotted names that a file imports, at module level alone or also inside functions."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    inside = set() if everywhere else {id(n) for f in functions for n in ast.walk(f)}
    nodes = [n for n in ast.walk(tree) if id(n) not in inside]
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_file_has_a_layer() -> None:
    assert len(FILES) > 30
    assert {part(p) for p in FILES} <= set(LAYER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = part(path)
    for name in imports(path, everywhere=True):
        if name.startswith("art_ext."):
            other = name.split(".")[1]
            assert other == own or LAYER[other] < LAYER[own] or {other, own} <= LAYERS[0], f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_foreign_libraries_stay_at_the_rim(path: Path) -> None:
    folder = path.relative_to(ROOT).parent.as_posix()
    for name in imports(path, everywhere=True):
        allowed = RIM.get(name.split(".")[0])
        assert allowed is None or folder in allowed, f"{folder} imports {name}"
    assert not {n for n in imports(path, everywhere=False) if n.split(".")[0] in ("torchvision", "timm")}


def test_a_method_never_imports_another_method() -> None:
    for path in (ROOT / "purifiers").rglob("*.py"):
        folder = path.relative_to(ROOT / "purifiers").parts[0]
        if folder.endswith(".py"):
            continue
        others = {n for n in imports(path, everywhere=True) if n.startswith("art_ext.purifiers.")}
        assert all(n.split(".")[2] in (folder, "base") for n in others)


def test_importing_the_package_is_cheap_and_leaves_art_alone() -> None:
    code = (
        "import time, sys, torch; start = time.perf_counter(); import art_ext; took = time.perf_counter() - start;"
        "print(took, 'art' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    answers = [run.stdout.split() for run in runs]
    assert min(float(took) for took, _ in answers) < 0.3
    assert all(art == "False" for _, art in answers)
