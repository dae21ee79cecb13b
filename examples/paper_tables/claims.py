"""What the five papers claim, what is left of it here, and a verdict by a rule: a section of results/README.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parts
from detection import compared
from worst_cases import counted, left

from art_ext.evaluation import Report, mean_interval, paired_difference

HOLDS, FAILS, OPEN = "holds", "does not hold", "not shown at this n"
RDP, DIR, ATOP, CDVAE, DRRDN = (
    "rdp_fashion_mnist_", "dir_fashion_mnist_", "atop_fashion_mnist_", "cdvae_fashion_mnist_", "drrdn_mnist_"
)  # fmt: skip
MAHALANOBIS = "AUC 99.4 to 99.8 against 95.3 to 98.7 %"
REACHED = 0.9
"""Of the paper's figure, which a claim about one accuracy has to reach."""


@dataclass(frozen=True)
class Gap:
    """The claim that one network keeps more than another, on the same images.

    Attributes:
        report: that holds both.
        ours: name of the model that is claimed to keep more, and titles of its attack as `parts.title` gives them.
        theirs: those of the other one.
        least: points by which it has to be more; below 0 for a claim that little is lost.
    """

    report: str
    ours: tuple[str, str]
    theirs: tuple[str, str]
    least: float = 0.0

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.report,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        report = Report.load(folder / f"{self.report}.json")
        mine, other = (parts.cell([report], model, (title,)) for model, title in (self.ours, self.theirs))
        if mine is None or other is None:
            raise ValueError(
                f"expected {self.ours} and {self.theirs} in {self.report}.json, got neither or one of them"
            )
        n = min(mine.images, other.images)
        return told(mine.survived[:n], other.survived[:n], self.least)


@dataclass(frozen=True)
class Worst:
    """The same of worst cases: images that no attack of the reports broke, at R = 1."""

    reports: tuple[str, ...]
    ours: str
    theirs: str

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return self.reports

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        reports = [Report.load(folder / f"{name}.json") for name in self.reports]
        mine, other = (left(counted(reports, model)) for model in (self.ours, self.theirs))
        n = min(len(mine), len(other))
        return told(mine[:n], other[:n], 0.0)


@dataclass(frozen=True)
class Share:
    """The claim that an accuracy reaches what the paper has: nine tenths of it, with the interval's lower end.

    Attributes:
        file: a JSON file.
        of: what it holds, to the share of right answers and how many there were.
        paper: the paper's accuracy.
    """

    file: str
    of: Callable[[Mapping[str, Any]], tuple[float, int]]
    paper: float

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.file,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        share, n = self.of(json.loads((folder / f"{self.file}.json").read_text("utf-8")))
        interval = parts.of_share(share, n)
        wanted = REACHED * self.paper
        verdict = HOLDS if interval.low >= wanted else FAILS if interval.high < wanted else OPEN
        return str(interval), verdict


@dataclass(frozen=True)
class Detected:
    """The claim that a detector on R(x) is better than on x, attacked as in the paper: surely so in most cells."""

    file: str
    detector: str

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.file,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        rows = json.loads((folder / f"{self.file}.json").read_text("utf-8"))["rows"]
        wanted = {"detector": self.detector, "protocol": "paper", "target": "own"}
        chosen = [r for r in rows if wanted.items() <= r.items()]
        gaps = [r["difference"]["AUC"] for r in chosen]
        above, below = (sum(1 for g in gaps if g[1] is not None and side(g)) for side in (_above, _below))
        verdict = HOLDS if above > len(gaps) / 2 else FAILS if below > len(gaps) / 2 else OPEN
        return f"AUC: {compared(chosen, 'AUC')}", verdict


@dataclass(frozen=True)
class Hybrids:
    """Table 3 of DRRDN: exchanging the class-irrelevant part costs more than exchanging the class-specific one."""

    file: str

    @property
    def files(self) -> tuple[str, ...]:
        """The results that it is measured with."""
        return (self.file,)

    def found(self, folder: Path) -> tuple[str, str]:
        """What was measured, and the verdict."""
        rows = {
            r["hybrid"]: r["correct"] for r in json.loads((folder / f"{self.file}.json").read_text("utf-8"))["rows"]
        }
        specific, irrelevant = ([float(v) for v in rows[k]] for k in ("z_s' + z_i", "z_s + z_i'"))
        return told(specific, irrelevant, 0.0)


Measured = Gap | Worst | Share | Detected | Hybrids


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        method: whose.
        says: what, and where.
        paper: its numbers, of its data.
        protocol: ours by its protocol; a text says why it was not measured.
        strongest: ours under the strongest attacks; empty where the claim is about no attack.
    """

    method: str
    says: str
    paper: str
    protocol: Measured | str
    strongest: Measured | str = ""


def _top_1(trained: str, tested: str) -> Callable[[Mapping[str, Any]], tuple[float, int]]:
    return lambda found: (found["top-1"][trained][tested], found["options"]["images"])


CLAIMS = (
    Claim("RDP", "images of attackers who ignore the purifier are classified right again (Table 1)",
          "error 61.7 to 14.9 %", Gap(f"{RDP}blind", ("RDP", "native PGD-40, blind"), ("undefended", "native PGD-40")),
          Worst((f"{RDP}white",), "RDP", "adversarially trained")),
    Claim("RDP", "clean images lose nothing (Table 2), read as less than a point", "97.60 to 97.70 %",
          Gap(f"{RDP}blind", ("RDP", "clean, none"), ("undefended", "clean, none"), -0.01)),
    Claim("RDP", "dynamic, it withstands a white-box attacker better than adversarial training (Table 4)",
          "71.30 against 55.70 %",
          Gap(f"{RDP}targeted", ("dynamic RDP", "targeted PGD-10"), ("adversarially trained", "targeted PGD-10")),
          Worst((f"{RDP}white",), "dynamic RDP", "adversarially trained")),
    Claim("RDP", "better than NRP, HGD and others (Table 1)", "14.9 against 21.0 % error of NRP",
          "their networks are not here", "their networks are not here"),
    Claim("DIR", "before an adversarially trained target it keeps more than the target alone under PGD-20 (Table 1)",
          "54.27 against 45.72 %", Gap(f"{DIR}paper", ("DIR", "native PGD-20"), ("target alone", "native PGD-20")),
          Worst((f"{DIR}paper", f"{DIR}strong"), "DIR", "target alone")),
    Claim("DIR", "and under BPDA + EOT (Table 3)", "52.09 against 45.72 %",
          Gap(f"{DIR}strong", ("DIR", "native PGD-40, bpda"), ("target alone", "native PGD-40")),
          Worst((f"{DIR}paper", f"{DIR}strong"), "DIR", "target alone")),
    *(
        Claim("AToP", f"fine-tuning {rt} makes it more robust to attacks on the classifier (Table 7)", numbers,
              Gap(f"{ATOP}blind", (f"{rt} + AToP", "native PGD-1000, blind"), (rt, "native PGD-1000, blind")),
              Worst((f"{ATOP}averaged", f"{ATOP}autoattack"), f"{rt} + AToP", rt))
        for rt, numbers in (("RT1", "0 to 39.45 %"), ("RT2", "67.97 to 84.38 %"), ("RT3", "70.31 to 73.44 %"))
    ),
    Claim("AToP", "fine-tuned RT2 keeps more under the full gradient, PGD-200 + EOT-20 (authors' reply)",
          "64.06 against 56.25 %",
          Gap(f"{ATOP}averaged", ("RT2 + AToP", "native PGD-200"), ("RT2", "native PGD-200")),
          Worst((f"{ATOP}averaged", f"{ATOP}autoattack"), "RT2 + AToP", "RT2")),
    Claim("AToP", "it keeps more of unseen attacks than adversarial training, here in L2 (Table 6)",
          "73.4 % in L2 1",
          Gap(f"{ATOP}unseen", ("RT2 + AToP", "native PGD-50"), ("adversarially trained", "native PGD-50")),
          Worst((f"{ATOP}unseen",), "RT2 + AToP", "adversarially trained")),
    Claim("CD-VAE", "G(x) defends against attacks on a classifier of x (Table 6)", "77.05 % of 86.81 %",
          Gap(f"{CDVAE}grey", ("CD-VAE", "native PGD-100, transfer"), ("undefended", "native PGD-100")),
          Worst((f"{CDVAE}white",), "CD-VAE", "adversarially trained")),
    Claim("CD-VAE", "trained in the released game it keeps more of unseen attacks than adversarial training, here in "
          "L2 (Table 7)", "43.1 against 19.2 % in L2 1",
          Gap(f"{CDVAE}white_l2", ("CD-VAE, released game", "native PGD-200"),
              ("adversarially trained", "native PGD-200")),
          Worst((f"{CDVAE}white_l2",), "CD-VAE, released game", "adversarially trained")),
    Claim("CD-VAE", "a classifier of x recognises R(x) (Table 3)", "92.68 %",
          Share(f"{CDVAE}analysis", _top_1("x", "R(x)"), 0.9268)),
    Claim("CD-VAE", "a classifier of R(x) recognises x (Table 3)", "96.20 %",
          Share(f"{CDVAE}analysis", _top_1("R(x)", "x"), 0.9620)),
    *(
        Claim("CD-VAE", f"{kind} detects attacks on R(x) better than on x (Table 4), {where}", numbers,
              Detected(f"detection_{file}", kind))
        for kind, numbers in (("MD", MAHALANOBIS), ("LID", "above"), ("KD", "above"))
        for file, where in (("fashion_mnist", "Fashion-MNIST"), ("cifar10", "CIFAR-10"))
    ),
    Claim("DRRDN", "it keeps more than TRADES under PGD-40, MNIST (Table 1)", "97.55 against 96.95 %",
          Gap(f"{DRRDN}white", ("DRRDN", "PGD-40"), ("TRADES", "PGD-40")),
          Worst((f"{DRRDN}white", f"{DRRDN}autoattack"), "DRRDN", "TRADES")),
    Claim("DRRDN", "and more than Madry's training (Table 1)", "97.55 against 96.58 %",
          Gap(f"{DRRDN}white", ("DRRDN", "PGD-40"), ("Madry", "PGD-40")),
          Worst((f"{DRRDN}white", f"{DRRDN}autoattack"), "DRRDN", "Madry")),
    Claim("DRRDN", "disentangling is what does it: more than the same network without (Table 4), PGD-100",
          "96.78 against 96.25 % without MI",
          Gap(f"{DRRDN}ablation", ("DRRDN", "PGD-100"), ("DRRDN-MI", "PGD-100")),
          Worst((f"{DRRDN}white", f"{DRRDN}autoattack"), "DRRDN", "halves")),
    Claim("DRRDN", "an adversary's class-irrelevant part does more harm than its class-specific one (Table 3)",
          "99.02 against 95.82 %", Hybrids(f"{DRRDN}hybrid")),
)  # fmt: skip
TEXT = """## Claims

What the papers say, their numbers on their data, and what was measured here by their protocol and under the strongest
attacks of the sections below: differences in points, paired on the same images, or an accuracy. A claim that one keeps
more than another holds where the whole interval is above 0, and does not hold where it is below; in between it is not
shown at this n. A claim about one accuracy holds where the interval is above nine tenths of the paper's. What is
claimed to be better than no defence is held against the adversarially trained network under the strongest attacks:
anything is more than nothing. Worst cases are those at R = 1. Each is judged for itself, at 95 %, for these networks:
small ones, one training each, on small images. Where the two verdicts differ, the second is the one to go by.
"""
COLUMNS = (
    "method",
    "claim",
    "the paper",
    "ours, by its protocol",
    "verdict",
    "ours, strongest attack",
    "verdict there",
)


def claims(folder: Path, rows: Sequence[Claim] = CLAIMS) -> str:
    """A row a claim, as a section; empty for a folder that has the results of none."""
    measured = [m for row in rows for m in (row.protocol, row.strongest) if not isinstance(m, str)]
    if not any(_there(m, folder) for m in measured):
        return ""
    return "\n".join([TEXT, parts.grid(COLUMNS, [entries(row, folder) for row in rows]), ""])


def entries(claim: Claim, folder: Path) -> dict[str, str]:
    """A row by column."""
    ours, verdict = _found(claim.protocol, folder)
    strongest, there = _found(claim.strongest, folder)
    cells = (claim.method, claim.says, claim.paper, ours, verdict, strongest, there)
    return dict(zip(COLUMNS, cells, strict=True))


def told(ours: Sequence[float], theirs: Sequence[float], least: float) -> tuple[str, str]:
    """Both means and their difference in points, and whether it is surely more than `least`, in shares of 1."""
    apart = paired_difference(ours, theirs)
    verdict = HOLDS if apart.low > least else FAILS if apart.high < least else OPEN
    both = [f"{100 * mean_interval(v).mean:.1f}" for v in (ours, theirs)]
    return f"{both[0]} against {both[1]} %: {parts.gap(ours, theirs)}", verdict


def _found(measured: Measured | str, folder: Path) -> tuple[str, str]:
    if isinstance(measured, str):
        return measured, "not measured here" if measured else ""
    return measured.found(folder) if _there(measured, folder) else ("not run yet", "not measured here")


def _there(measured: Measured, folder: Path) -> bool:
    """Whether the folder has the files that it is measured with."""
    return all((folder / f"{name}.json").is_file() for name in measured.files)


def _above(gap: Sequence[float]) -> bool:
    return gap[1] > 0


def _below(gap: Sequence[float]) -> bool:
    return gap[2] < 0
