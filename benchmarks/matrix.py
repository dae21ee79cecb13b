"""Tests the package beside several versions of Python and NumPy, each in an environment of its own.

python -m benchmarks.matrix                      # every row whose Python is on this machine
python -m benchmarks.matrix 3.11/1.26 3.11/2     # some rows alone; the others are declared

Writes docs/compatibility.md. A row needs a torch for its Python: where no build for the CPU is at hand, pip fetches
gigabytes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from art_ext.files import replacing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
ROWS = ("3.10/1.26", "3.11/1.26", "3.11/2", "3.12/1.26", "3.12/2", "3.13/2", "3.14/2")
"""Python and NumPy; 1.26 has no wheels for newer Pythons."""
PINS, FREE = ROOT / "constraints.txt", re.compile(r"(contourpy|matplotlib|numpy|pillow|scikit-learn|scipy)==")
"""The tested set, and what NumPy decides."""
TORCH = "2.13.0"
TESTS = (
    "tests/test_images.py", "tests/test_plain.py", "tests/test_plots.py", "tests/data", "tests/attacks/test_pgd.py",
    "tests/detectors", "tests/estimators", "tests/evaluation/test_statistics.py", "tests/evaluation/test_report.py",
    "tests/cli/test_options.py",
)  # fmt: skip
"""The part that is run: where NumPy, matplotlib, scikit-learn, ART or the command line are used."""
NAMES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "adversarial-robustness-toolbox")
VERSIONS = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {NAMES!r}}}))"
HEAD = """# Versions that were tested

`make matrix` installs the package with torch {torch} beside each row's Python and NumPy, and runs a part of the tests
there: {tests}. *Declared* are rows that were not run: they are meant to work, and nobody looked. `constraints.txt` is
the set that all tests are run with. Last run: {date}.

"""
NOTES = """
torchattacks wants requests 2.25, MLflow 3 a newer one: they need two environments, or torchattacks installed with
`--no-deps`. Sphinx above 7.3 wants a newer one too, so that `constraints.txt` holds 7.3.7.
"""
DECLARED = "declared"


def interpreter(version: str) -> str | None:
    """A Python of a version that starts, None where there is none."""
    found = [shutil.which(f"python{version}"), *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    for path in filter(None, found):
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
            return str(path)
    return None


def tested(row: str, folder: Path) -> dict[str, str]:
    """What came of a row, as the cells of the table by title.

    Args:
        row: Python and NumPy, such as "3.12/2".
        folder: for the environment, which is left there for the next time.
    """
    python, numpy = row.split("/")
    cells = {"Python": python, "NumPy": numpy}
    if (base := interpreter(python)) is None:
        return cells | {"outcome": DECLARED}
    place = folder / f"{python}-{numpy}"
    bin_ = place / "bin" / "python"
    if not bin_.exists():
        subprocess.run([base, "-m", "venv", str(place)], check=True)
    rest = place / "constraints.txt"
    rest.write_text("".join(line for line in PINS.read_text("utf-8").splitlines(True) if not FREE.match(line)), "utf-8")
    wanted = [
        "-c",
        str(rest),
        f"torch=={TORCH}",
        f"numpy=={numpy}.*",
        "pytest",
        "pytest-timeout",
        "jsonschema",
        str(ROOT),
    ]
    install = [str(bin_), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    subprocess.run([*install, "-U", "pip"], capture_output=True, check=False)  # an old one takes ages to resolve
    done = subprocess.run([*install, *wanted], capture_output=True, text=True, check=False)
    if done.returncode:
        return cells | {"outcome": f"cannot be installed: {_last(done.stderr)}"}
    versions = json.loads(subprocess.run([str(bin_), "-c", VERSIONS], capture_output=True, check=True).stdout)
    check = subprocess.run([str(bin_), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    command = [str(bin_), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    cells |= {"NumPy": versions["numpy"], "torch": versions["torch"], "scikit-learn": versions["scikit-learn"],
              "matplotlib": versions["matplotlib"], "ART": versions["adversarial-robustness-toolbox"]}  # fmt: skip
    cells |= {"pip check": "clean" if check.returncode == 0 else _last(check.stdout)}
    if ran.returncode:
        sys.stderr.write(ran.stdout[-4000:])
    return cells | {"outcome": re.sub(r" in [\d.]+s.*", "", _last(ran.stdout))}


def _last(text: str) -> str:
    return ([""] + [line.strip("= ") for line in text.splitlines() if line.strip()])[-1].replace("|", "/")


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as Markdown."""
    titles = list(dict.fromkeys(title for row in rows for title in row))
    titles = [*(t for t in titles if t != "outcome"), "outcome"]
    lines = [titles, ["---"] * len(titles), *([row.get(title, "") for title in titles] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Runs the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="Python/NumPy; all of them unless given")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "matrix", help="of the environments")
    options = parser.parse_args()
    found = []
    for row in ROWS:
        python, numpy = row.split("/")
        chosen = not options.rows or row in options.rows
        found.append(tested(row, options.folder) if chosen else {"Python": python, "NumPy": numpy, "outcome": DECLARED})
        sys.stdout.write(f"{row}: {found[-1]['outcome']}\n")
        sys.stdout.flush()
    date = datetime.now(timezone.utc).date().isoformat()
    tests = ", ".join(f"`{name}`" for name in TESTS)
    with replacing(PAGE) as temporary:
        temporary.write_text(HEAD.format(torch=TORCH, tests=tests, date=date) + table(found) + NOTES, "utf-8")


if __name__ == "__main__":
    main()
