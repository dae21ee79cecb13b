"""The section of a page on detectors: on x against on R(x), and attackers who know them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from art_ext.evaluation import detection, mean_interval
from art_ext.evaluation.statistics import ENOUGH
from experiments.page import grid, made_by, section

SPACES = ("x", "R(x)")


def page(found: Mapping[str, Any], title: str) -> str:
    """The section of one data set's results."""
    right = ", ".join(f"the classifier of {k} {mean_interval(v)}" for k, v in found["correct"].items())
    o, names = found["options"], list(found["adaptive"][0]["broken"])
    own = (f" No presets: classifiers of width {o['width']}, {o['epochs']} epochs on {o['train']} images."
           if "width" in o else "")  # fmt: skip
    through = [
        [row["detector"], row["system"], *(str(mean_interval(c)) for c in
         (row["flagged_clean"], *(row["broken"][name] for name in names)))] for row in found["adaptive"]
    ]  # fmt: skip
    return section(
        f"Detection on x against detection on R(x), {title}",
        "KD, LID and Mahalanobis (MD) on the features of a classifier of x and of CD-VAE's classifier of R(x). `paper` "
        "keeps images that are right clean and noisy and wrong attacked, and wants no alarm on clean and noisy ones; "
        "`all` keeps all and wants none on clean ones. The attack goes for the detector's own classifier, as in the "
        f"paper, or for that of x: Linf eps {found['eps']['Linf']:.3g}, L2 eps {found['eps']['L2']:g}, "
        f"{detection.STEPS} steps, C&W is PGD on the margin. TNR at 95 % TPR is the share of attacked images flagged "
        "at 5 % false alarms. Intervals are 95 % bootstrap over test images, of one training and one calibration. A "
        "cell has all images that its space keeps; `above` and `below` compare on those that both keep. `surely` is at "
        "5 % for all cells of a block together (Holm), by a normal law as wide as the interval of the difference: the "
        "bootstrap's draws were not kept. Cells of one detector see the same images and are no independent witnesses.",
        f"Right on clean images: {right}.{own}",
        *blocks(found["rows"]),
        "Share of images that an attacker gets through, wrong and unflagged, lower is better; detectors at "
        f"{100 * detection.FALSE_POSITIVES:g} % false alarms, Linf {found['eps']['Linf']:.3g}, "
        f"{found['options']['steps']} steps. PGD on the classifier does not know the detector, the others do:",
        grid(["detector", "system", "clean flagged", *names], through), made_by(found),
    )  # fmt: skip


def blocks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paper's table for each target and protocol, and how often R(x) beats x there."""
    lines = []
    for target in detection.TARGETS:
        for protocol in detection.PROTOCOLS:
            part = [r for r in rows if r["target"] == target and r["protocol"] == protocol]
            goal = "the detector's own classifier" if target == "own" else "the classifier of x"
            seen = [s["AUC"][3] for r in part for s in r["spaces"].values()]
            images = f"n={min(seen)}" if min(seen) == max(seen) else f"n={min(seen)} to {max(seen)}"
            kinds = [(kind, name) for kind in dict.fromkeys(r["detector"] for r in part) for name in SPACES]
            table = [[f"{kind} on {name}", *(entry(part, kind, attack, name) for attack in detection.ATTACKS)]
                     for kind, name in kinds]  # fmt: skip
            lines += [
                f"Attack on {goal}, protocol `{protocol}`, {images}; TNR at 95 % TPR / AUC, %:",
                grid(["detector", *detection.ATTACKS], table),
                "\n".join(f"- {metric}: {detection.compared(part, metric)}" for metric in detection.METRICS),
            ]
    return lines


def entry(rows: Sequence[Mapping[str, Any]], kind: str, attack: str, space: str) -> str:
    """Both metrics of a cell."""
    found = next((r["spaces"].get(space) for r in rows if (r["detector"], r["attack"]) == (kind, attack)), None)
    return "" if found is None else " / ".join(_shown(*found[k]) for k in detection.METRICS)


def _shown(mean: float, low: float | None, high: float | None, n: int) -> str:
    if low is None or high is None or n < ENOUGH or high <= low:
        return f"{100 * mean:.1f} [undetermined]"
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
