"""Whether an evaluation sees through 29 defences that only look robust, and lets eight honest models pass.

    python -m benchmarks.broken_defences --suite standard --images 256 --out runs/broken

Each model is evaluated in a folder of its own, so that none disturbs another. A run that is stopped goes on where it
was; `--read` makes the table of the reports that are there. Expected: every row is good. A broken defence is good
where a check that warns or fails names it and not the plain classifier, or where its worst case is the plain
classifier's within the paired interval; an honest control where it fails no check.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from art_ext.evaluation import SUITES, Defended, Report, Threat, evaluate, judge, paired_difference, suite
from art_ext.evaluation.report import robust
from art_ext.files import replacing
from benchmarks.broken.case import Case
from benchmarks.broken.controls import CONTROLS
from benchmarks.broken.defences import BROKEN
from benchmarks.broken.problem import CLASSES, EPS, Problem, make_problem

PLAIN = "undefended"
BAD = ("fail", "warn")
HEADER = ("defence", "clean", "worst case", "minus that of the plain model", "named by", "good")


@dataclass(frozen=True)
class Row:
    """What an evaluation says about one model.

    Attributes:
        name: of the defence.
        why: it only looks robust; of a control what it is.
        broken: whether it is one of the broken ones.
        clean: accuracy on clean images, in [0, 1].
        worst: share of images that no attack broke; None where no attack ran to its end.
        difference: worst case minus that of the plain model, mean and 95 % interval, on the same images.
        named: verdict by check, for those that warn or fail here and do not on the plain model.
        raised: what `evaluate` itself raised; empty where it gave a report.
    """

    name: str
    why: str
    broken: bool
    clean: float | None = None
    worst: float | None = None
    difference: tuple[float, float, float] | None = None
    named: Mapping[str, str] | None = None
    raised: str = ""

    @property
    def equal(self) -> bool:
        """Whether the worst case is the plain model's within the paired interval."""
        return self.difference is not None and self.difference[1] <= 0 <= self.difference[2]

    @property
    def good(self) -> bool:
        """Whether the evaluation said of the model what is true."""
        if self.raised or self.named is None:
            return False
        return bool(self.named) or self.equal if self.broken else "fail" not in self.named.values()


def row(name: str, case: Case, report: Report, plain: Report) -> Row:
    """The row of a model.

    Args:
        name: of the model in its report.
        case: the model.
        report: on it.
        plain: report that the plain classifier is in.
    """
    usual = {v.check: v.verdict for v in plain.checks if v.model == PLAIN}
    found = {v.check: str(v.verdict) for v in report.checks if v.model == name and v.verdict in BAD}
    named = {check: verdict for check, verdict in found.items() if usual.get(check) not in (verdict, "fail")}
    attacked = report.attacked(name)
    worst, difference = None, None
    if attacked:
        mine, theirs = (list(map(float, robust(cells))) for cells in (attacked, plain.attacked(PLAIN)))
        n = min(len(mine), len(theirs))
        apart = paired_difference(mine[:n], theirs[:n])
        worst, difference = report.worst_case(name).mean, (apart.mean, apart.low, apart.high)
    return Row(name, case.why, name in BROKEN, report.clean(name).accuracy.mean, worst, difference, named)


def evaluated(
    name: str, case: Case, problem: Problem, chosen: str, folder: Path | None, *, beside: bool = True, **options: Any
) -> Report:  # fmt: skip
    """The report on a model.

    Args:
        name: of the model.
        case: how it is made and attacked.
        problem: images, labels and plain classifier.
        chosen: name of the suite.
        folder: where it is kept, and gone on with.
        beside: evaluate the plain classifier beside a purifier, whose cost is measured against it.
        options: of `evaluate`, instead of the suite's.
    """
    threat = Threat("Linf", EPS)
    ready = suite(chosen, threat, classes=CLASSES, channels=problem.x.shape[1])
    models = [case.make(name, problem)]
    if beside and models[0].purifier is not None:
        models.insert(0, Defended(PLAIN, problem.classifier))
    attacks = options.pop("attacks", case.attacks or ready.attacks)
    return evaluate(
        models, attacks, problem.x, problem.y, threat=threat, folder=folder, progress=sys.stderr.isatty(),
        **{**ready.options, **options},
    )  # fmt: skip


def rows(cases: Mapping[str, Case], problem: Problem, chosen: str, out: Path) -> list[Row]:
    """One row a model; tables are written after each."""
    plain = evaluated(PLAIN, CONTROLS[PLAIN], problem, chosen, out / PLAIN)
    done: list[Row] = []
    for name, case in tqdm(cases.items(), desc="models"):
        try:
            report = evaluated(name, case, problem, chosen, folder_of(name, out))
            done.append(row(name, case, report, plain))
        except Exception as error:  # a broken model may raise anything: the row says so and is not good
            done.append(Row(name, case.why, name in BROKEN, raised=f"{type(error).__name__}: {error}"))
        write(done, plain, chosen, out)
    return done


def read_rows(cases: Mapping[str, Case], chosen: str, out: Path, others: Sequence[Path]) -> list[Row]:
    """The rows of those models whose reports are in one of the folders, judged anew; tables are written to `out`."""
    plain = _judged(out / PLAIN / "report.json")
    done = []
    for name, case in cases.items():
        files = [folder_of(name, folder) / "report.json" for folder in (out, *others)]
        file = next((f for f in files if f.exists()), None)
        if file is not None:
            done.append(row(name, case, _judged(file), plain))
    write(done, plain, chosen, out)
    return done


def _judged(file: Path) -> Report:
    report = Report.load(file)
    return replace(report, checks=judge(report))


def folder_of(name: str, out: Path) -> Path:
    """Where the evaluation of a model is kept."""
    return out / re.sub(r"\W+", "_", name).strip("_")


def write(done: Sequence[Row], plain: Report, chosen: str, out: Path) -> None:
    """`table.json` and `table.md` in the folder."""
    n = plain.clean(PLAIN).images
    facts = {"suite": chosen, "images": n, "threat": plain.threat, "versions": plain.provenance.get("versions")}
    found = [{**asdict(r), "good": r.good} for r in done]
    texts = {
        "table.json": json.dumps({**facts, "rows": found}, indent=1) + "\n",
        "table.md": markdown(done, f"{chosen} suite, {n} images, Linf {EPS:g}"),
    }
    for name, text in texts.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text, "utf-8")


def markdown(done: Sequence[Row], title: str) -> str:
    """The rows as two tables."""
    lines = [f"{title}; written by `python -m benchmarks.broken_defences`", ""]
    for broken, heading in ((True, "Broken or cheating"), (False, "Honest controls")):
        chosen = [r for r in done if r.broken == broken]
        if chosen:
            good = f"{heading}: {sum(r.good for r in chosen)} of {len(chosen)} as they should be"
            lines += [good, "", *(f"| {' | '.join(c)} |" for c in (HEADER, ["---"] * 6, *map(cells, chosen))), ""]
    return "\n".join(lines)


def cells(r: Row) -> list[str]:
    """A row as text."""
    named = ", ".join(f"{check} ({verdict})" for check, verdict in (r.named or {}).items())
    apart = "" if r.difference is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * v for v in r.difference))
    numbers = ["" if v is None else f"{100 * v:.1f} %" for v in (r.clean, r.worst)]
    said = named or ("same worst case" if r.equal else r.raised.replace("|", "/") or "nothing")
    return [f"{r.name}: {r.why}", *numbers, apart, said, "yes" if r.good else "NO"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=SUITES, default="standard")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="names of models; all unless given")
    parser.add_argument(
        "--read", nargs="*", type=Path, help="evaluate nothing: the table of the reports there and in these folders"
    )
    args = parser.parse_args()
    cases = {**BROKEN, **CONTROLS}
    unknown = sorted({*args.only} - {*cases})
    if unknown:
        parser.error(f"expected --only out of {', '.join(cases)}; got {', '.join(unknown)}")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # attacks look outside [0, 1], and say so
    chosen = {name: case for name, case in cases.items() if not args.only or name in args.only}
    args.out.mkdir(parents=True, exist_ok=True)
    if args.read is not None:
        done = read_rows(chosen, args.suite, args.out, args.read)
    else:
        done = rows(chosen, make_problem(args.images), args.suite, args.out)
    print((args.out / "table.md").read_text("utf-8"))
    sys.exit(0 if all(r.good for r in done) else 1)


if __name__ == "__main__":
    main()
