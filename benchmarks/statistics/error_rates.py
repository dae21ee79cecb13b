"""How often the checks fail a model without a fault, and the smallest fault that they see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from art_ext.evaluation import judge
from art_ext.evaluation.statistics import upper
from benchmarks.statistics.honest import FAULTS, KINDS, honest
from benchmarks.statistics.table import markdown

IMAGES = (16, 64, 256, 1000)
SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Of the images, with the fault; the smallest one that is seen is looked for by halving."""
POWER = 0.8
VERDICTS = ("pass", "warn", "fail", "undetermined")


def false_alarms(reports: int, seed: int = 0, images: tuple[int, ...] = IMAGES) -> list[dict[str, Any]]:
    """For each kind of honest report and number of images: models, those that fail any check, and verdicts by check."""
    rows = []
    for n in images:
        for kind, about in KINDS.items():
            counts: dict[str, Counter[str]] = {}
            failing = models = 0
            for r in tqdm(range(reports), desc=f"honest, {kind}, n={n}", leave=False):
                report = honest(about, n, np.random.default_rng((seed, r)))
                verdicts = judge(report)
                failing += len({v.model for v in verdicts if v.verdict == "fail"})
                models += len(report.models())
                for v in verdicts:
                    counts.setdefault(v.check, Counter())[v.verdict] += 1
            checks = {check: {v: found[v] for v in VERDICTS} for check, found in counts.items()}
            rows.append({
                "n": n, "kind": kind, "models": models, "failing": failing, "upper": upper(failing, models),
                "checks": checks,
            })  # fmt: skip
    return rows


def smallest_faults(reports: int, seed: int = 0, images: tuple[int, ...] = IMAGES) -> list[dict[str, Any]]:
    """For each check and number of images: the smallest share with a fault that it warns of, and that it fails."""
    rows = []
    for check, (model, plant, what) in tqdm(FAULTS.items(), desc="planted faults", leave=False):
        row: dict[str, Any] = {"check": check, "of": what}
        for n in images:
            made = [honest(KINDS["usual"], n, np.random.default_rng((seed, r))) for r in range(reports)]

            def seen(share: float, wanted: tuple[str, ...], made: list[Any] = made) -> float:
                hits = 0
                for r, report in enumerate(made):
                    faulty = plant(report, share, np.random.default_rng((seed, r, 1)))  # noqa: B023  called at once
                    hits += any(v.verdict in wanted for v in judge(faulty, (check,)) if v.model == model)  # noqa: B023
                return hits / len(made)

            row[str(n)] = {
                "warn or fail": _smallest(lambda s, seen=seen: seen(s, ("warn", "fail"))),  # type: ignore[misc]
                "fail": _smallest(lambda s, seen=seen: seen(s, ("fail",))),  # type: ignore[misc]
            }
        rows.append(row)
    return rows


def _smallest(power: Any) -> float | None:
    """The smallest share of `SHARES` that is seen with `POWER`; None where even the largest is not."""
    low, high = 0, len(SHARES)
    while low < high:
        middle = (low + high) // 2
        if power(SHARES[middle]) >= POWER:
            high = middle
        else:
            low = middle + 1
    return SHARES[low] if low < len(SHARES) else None


def measured(reports: int, seed: int = 0, images: tuple[int, ...] = IMAGES) -> dict[str, Any]:
    """False alarms and smallest faults, with what they were measured on."""
    return {
        "reports": reports, "seed": seed, "power": POWER, "false_alarms": false_alarms(reports, seed, images),
        "smallest_faults": smallest_faults(max(20, reports // 2), seed, images),
    }  # fmt: skip


def tables(found: Mapping[str, Any]) -> str:
    """Both tables, Markdown."""
    alarms, faults = alarms_table(found["false_alarms"]), faults_table(found["smallest_faults"])
    return "\n".join([
        f"Honest models that fail any check, of {found['reports']} simulated reports of three models each, with the "
        "upper end of the exact one-sided 95 % interval.", "", *markdown(*alarms), "",
        f"The smallest fault that is warned of or failed in {100 * found['power']:.0f} % of the reports.", "",
        *markdown(*faults),
    ])  # fmt: skip


def alarms_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: models that fail any check, with the upper end of the exact one-sided 95 % interval."""
    kinds = list(dict.fromkeys(r["kind"] for r in rows))
    table = []
    for n in dict.fromkeys(r["n"] for r in rows):
        by_kind = {r["kind"]: r for r in rows if r["n"] == n}
        table.append([str(n), *(f"{by_kind[k]['failing']} of {by_kind[k]['models']} "
                                f"(at most {100 * by_kind[k]['upper']:.1f} %)" for k in kinds)])  # fmt: skip
    return ["images", *kinds], table


def faults_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the smallest fault that is seen in four of five reports, warned of and failed."""
    sizes = [k for k in rows[0] if k not in ("check", "of")]
    table = [[r["check"], r["of"], *(_pair(r[n]) for n in sizes)] for r in rows]
    return ["check", "fault: share of", *(f"n = {n}" for n in sizes)], table


def _pair(found: dict[str, float | None]) -> str:
    warned, failed = (("none" if v is None else f"{100 * v:.0f} %") for v in (found["warn or fail"], found["fail"]))
    return warned if warned == failed else f"{warned} (fails: {failed})"
