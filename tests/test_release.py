"""The source distribution holds what its tests read; versions agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import art_ext

ROOT = Path(__file__).parents[1]
READ = re.compile(r"""(?:ROOT|parents\[\d\]) / "([^"]+)"(?: / "([^"]+)")?""")
"""How the tests name files of the repository."""


def shipped() -> set[str]:
    """Paths in the source distribution, as its builder lists them."""
    builder = pytest.importorskip("hatchling.builders.sdist")
    return {file.distribution_path for file in builder.SdistBuilder(str(ROOT)).recurse_included_files()}


def test_the_source_distribution_holds_what_its_tests_read() -> None:
    found = shipped()
    folders = {str(parent) for name in found for parent in Path(name).parents}
    for test in sorted((ROOT / "tests").rglob("*.py")):
        for parts in READ.findall(test.read_text("utf-8")):
            name = "/".join(filter(None, parts))
            assert name in found | folders or not (ROOT / name).exists(), f"{test.name} reads {name}"
    assert {"README.md", "docs/evaluation.md", "results/README.md", "notebooks/03_dir.ipynb"} <= found
    assert "art_ext/presets/fashion_mnist_rdp.safetensors" in found
    assert not any(name.startswith(("docs/copied", "site", "runs", "out", ".git/")) for name in found)


def test_versions_agree() -> None:
    assert f"\nversion: {art_ext.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\n## [{art_ext.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.slow
def test_unpacked_the_source_distribution_passes_its_tests(tmp_path: Path) -> None:
    sdist = pytest.importorskip("hatchling.builders.sdist")
    (path,) = sdist.SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
