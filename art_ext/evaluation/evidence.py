"""A folder of a report as evidence: a list of its files with their hashes, and whether all of it still fits together.

`manifest.json` holds the hash of each file. Whoever signs it (`ssh-keygen -Y sign`, `gpg --detach-sign`) signs all of
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import art_ext
from art_ext.evaluation.judge import judge
from art_ext.evaluation.report.criteria import given_criteria
from art_ext.evaluation.report.exports import EXPORTS
from art_ext.evaluation.report.page import page
from art_ext.evaluation.report.whole import Report
from art_ext.files import replacing
from art_ext.nn.hashing import sha256_of_file

MANIFEST, JSON, MARKDOWN, PAGE, EXAMPLES = (
    "manifest.json", "report.json", "report.md", "report.html", "x_adv.safetensors"
)  # fmt: skip
LISTED = (JSON, MARKDOWN, PAGE, EXAMPLES, *(name for name, _ in EXPORTS.values()))
PICTURE = re.compile(r"<h2>[^<]*</h2><img [^>]*>")
"""Pictures are drawn, not computed: their files are compared by hash alone."""


def write_manifest(folder: Path | str) -> Path:
    """Writes `manifest.json`, with the hashes of the report's files that are there."""
    folder = Path(folder)
    files = {name: sha256_of_file(folder / name) for name in LISTED if (folder / name).is_file()}
    with replacing(folder / MANIFEST) as temporary:
        text = json.dumps({"art-ext": art_ext.__version__, "sha256": files}, indent=1, sort_keys=True)
        temporary.write_text(text + "\n", "utf-8")
    return folder / MANIFEST


def verify(folder: Path | str) -> list[str]:
    """What does not fit together in the folder of a report; nothing where all does.

    Each file is held against its hash. Then everything is computed anew from the answers in `report.json`: verdicts,
    the tables of `report.md`, the page but for its pictures, and exports.

    Raises:
        ValueError: no folder with a report and a manifest, or a damaged one.
    """
    folder = Path(folder)
    version, hashes = _manifest(folder)
    lost = [name for name in hashes if not (folder / name).is_file()]
    found = [f"{name} is listed in {MANIFEST} and not there" for name in lost]
    found += [f"{name} is not what {MANIFEST} lists: it was changed" for name, listed in hashes.items()
              if name not in lost and sha256_of_file(folder / name) != listed]  # fmt: skip
    found += [f"{name} is there and not listed in {MANIFEST}" for name in LISTED
              if name not in hashes and (folder / name).is_file()]  # fmt: skip
    if JSON in lost:
        return found
    try:
        report = Report.load(folder / JSON)
        wrong = [*_wrong_verdicts(report), *_wrong_files(folder, report)]
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        return [*found, f"{JSON} cannot be read as a report: {error}"]
    if wrong and version != art_ext.__version__:
        wrong = [f"{text} (it was written by art-ext {version}, this is {art_ext.__version__})" for text in wrong]
    return found + wrong


def _manifest(folder: Path) -> tuple[str, dict[str, str]]:
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"expected a folder that art-ext evaluate or art-ext report wrote, got {folder}: no {MANIFEST}"
        )
    try:
        data = json.loads(file.read_text("utf-8"))
        version, hashes = data["art-ext"], dict(data["sha256"])
        sound = all(name in LISTED and isinstance(value, str) for name, value in hashes.items()) and JSON in hashes
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"expected {file} as this package writes it, got a damaged file: {error}") from error
    if not sound:
        raise ValueError(f"expected {file} to list {JSON} and files out of {', '.join(LISTED)}; got {sorted(hashes)}")
    return version, hashes


def _wrong_verdicts(report: Report) -> list[str]:
    """Verdicts and criteria that do not follow from the answers."""
    then, now = ({(v.check, v.model): v for v in verdicts} for verdicts in (report.checks, judge(report)))
    found = []
    for check, model in dict.fromkeys([*then, *now]):
        said, computed = then.get((check, model)), now.get((check, model))
        if said != computed:
            words = [f"{v.verdict} ({v.detail})" if v else "nothing" for v in (said, computed)]
            found.append(f"{JSON}: check {check!r} on {model} says {words[0]}; its answers give {words[1]}")
    if given_criteria(report.required) != report.required:
        found.append(f"{JSON}: criteria are not as this package writes them: {report.required}")
    return found


def _wrong_files(folder: Path, report: Report) -> list[str]:
    """Files whose text does not follow from the answers."""
    made: dict[str, Callable[[], str]] = {MARKDOWN: report.markdown, PAGE: lambda: page(report)}
    made |= {name: partial(make, report) for name, make in EXPORTS.values()}
    found = []
    for name, make in made.items():
        if (folder / name).is_file():
            text = (folder / name).read_text("utf-8", errors="replace")
            there = PICTURE.sub("", text) if name == PAGE else text
            if there != make():
                found.append(f"{name} does not follow from the answers in {JSON}: {_first_difference(there, make())}")
    return found


def _first_difference(there: str, computed: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(there, computed, strict=False)) if a != b), 0)
    start = max(0, at - 20)
    return f"it says {there[start : at + 20]!r}, computed {computed[start : at + 20]!r}"
