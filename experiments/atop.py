"""AToP (Lin et al., ICLR 2024): fine-tuned purifiers under attackers of the classifier alone, and what others leave."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from art_ext.attacks import NORMS
from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Cell, Probe, Report, Threat, paired_difference
from art_ext.evaluation.report import several
from art_ext.evaluation.report.worst import left, worst_of
from art_ext.objectives import AToPFineTuning, AToPPretraining
from art_ext.purifiers import AToP
from art_ext.purifiers.atop import RandomTransform
from experiments.attackers import AUTOATTACK, BLIND, FULL, autoattack, native
from experiments.claims import CIFAR10, CIFAR10_ALL, Claim, Row, gap, worst
from experiments.core import Experiment, Item, Model, Part, Table, Work
from experiments.data import SETS
from experiments.networks import Network, Recipe, adam, classifiers, copied, cosine
from experiments.page import Results, about, common, laid_out, section, sweeps, there, unhappy, without_sweeps

SCALES: Mapping[str, dict[str, Any]] = {
    "small": {"width": 8, "dilations": [1, 2, 1], "fold": 4, "pretraining_epochs": 24, "epochs": 12, "train": 8000,
              "rate": 1e-3, "tuning_share": 0.3, "weight": 0.05, "adversarial": 0.1, "batch": 64, "seed": 0,
              "images": 512, "slow": 512, "of_games": 128},
    "paper": {"width": 48, "dilations": [1, 1, 2, 4, 8, 16, 1, 1], "fold": 1, "pretraining_epochs": 30, "epochs": 30,
              "train": None, "rate": 1e-3, "tuning_share": 0.1, "weight": 0.025, "adversarial": 0.5, "batch": 128,
              "seed": 0, "images": 512, "slow": 512, "of_games": 512},
}  # fmt: skip
"""The released generator starts from weights of Places2, at 256 pixels; here it is trained from scratch."""
SHAPE = ("width", "dilations", "fold")
TRAINING = ("pretraining_epochs", "epochs", "train", "rate", "tuning_share", "weight", "adversarial", "seed")
KINDS = ("RT1", "RT2", "RT3")
UNDEFENDED, ROBUST, TUNED, FROZEN, NOISE = (
    "undefended", "adversarially trained", " + AToP", ", frozen", "RT2, no generator"
)  # fmt: skip
GAMES: Mapping[str, dict[str, Any]] = {  # what RT2 is fine-tuned against
    "RT2 + AToP": {"attack": "fgsm", "eps": "Linf"},
    "RT2 + AToP, PGD": {"attack": "pgd", "eps": "Linf"},
    "RT2 + AToP, PGD in L2": {"attack": "pgd", "eps": "L2", "norm": "L2"},
    "RT2 + AToP, PGD through the purifier": {"attack": "purifier", "eps": "Linf", "steps": 5},
    "RT2 + clean images": {"data": "clean"},
    "RT2, trained as long without a classifier": {"data": "clean", "weight": 0.0},
}
COLUMNS = {
    **{f"{k}, blind": (f"native {k}, blind", f"native {k}") for k in ("FGSM", "PGD-10", "PGD-20", "PGD-1000")},
    **native("PGD-200 + EOT-20", "PGD-50 + EOT-20"),
    "AutoAttack": AUTOATTACK,
    "StAdv-50": ("native StAdv-50 0.05",),
}
GAINS = (
    *((f"{kind}{TUNED}", kind) for kind in KINDS),
    ("RT2" + TUNED, "RT1" + TUNED),
    ("RT2" + TUNED, "RT3" + TUNED),
    ("RT3" + TUNED, "RT1" + TUNED),
    ("RT2", NOISE),
    *((f"{kind}{tuned}", UNDEFENDED) for kind in KINDS for tuned in ("", TUNED)),
    *((f"{kind}{TUNED}{FROZEN}", kind + FROZEN) for kind in KINDS),
)
"""What fine-tuning adds, the poster's order RT2 > RT3 > RT1, what the generator adds to noise, what it all costs."""
SEVEN = ("blind", "averaged", "autoattack", "stadv", "frozen")
"""The parts of Table 7 and what stands beside it."""
IN_THE_BALL = ("averaged", "blind", "autoattack")
ORDER = ("RT2", "RT3", "RT1")
"""The poster's, fine-tuned, from the one that keeps most."""
POSTER = "Table 7 of the poster, and stronger attacks"
NETWORKS = Path("results/atop_fashion_mnist_networks")
ITEMS = (
    Item("Table 1", "kinds of defences in words"),
    Item("Table 6", "AutoAttack in Linf and L2, StAdv", ("autoattack", "autoattack_l2", "stadv")),
    Item("Table 7", "attacks on the classifier alone", ("blind",)),
    Item("Figure 1", "the method"),
    Item("Figure 3", "attacked images"),
    Item("Figure 4", "adversarial training, purification and both", ("known", "unseen")),
    Item("Authors' reply", "PGD-200 + EOT-20 by the full gradient, masks frozen", ("averaged", "frozen", "checks")),
)
DECLARED = ("fashion_mnist", "mnist", "cifar10")


def declare(data: str, scale: str) -> Experiment:
    """The table of settings."""
    d, s = SETS[data], SCALES[scale]
    linf, l2, few = Threat("Linf", d.eps), Threat("L2", d.eps_l2), s["slow"]
    step = {"step_size": d.eps / 4, "best": False}
    seven = tuple(f"{kind}{tuned}" for kind in KINDS for tuned in ("", TUNED))
    alone, games = (UNDEFENDED, ROBUST), (UNDEFENDED, ROBUST, "RT2", *GAMES)
    everyone, said = (*alone, *seven, NOISE), {"purifiers": {k: s[k] for k in (*SHAPE, *TRAINING)}}

    def eot(steps: int, images: int) -> Attack:
        return Attack("native", "PGD", {"steps": steps, "check_every": 10}, images, knowledge=FULL)

    def moved(images: int) -> Attack:
        return Attack("native", "StAdv", {"steps": 50}, images, knowledge=FULL)

    def part(models: tuple[str, ...], attacks: tuple[Attack, ...], threat: Threat = linf, **more: Any) -> Part:
        return Part(models, attacks, threat, BLIND + FULL, s["images"], about=said, **more)

    probe = Probe(64, 20, seeds=3)
    parts: dict[str, Part | Work] = {
        "blind": part(everyone, (Attack("native", "FGSM", knowledge=BLIND),
                                 *(Attack("native", "PGD", {"steps": k, **step}, knowledge=BLIND)
                                   for k in (10, 20, 1000)))),
        "averaged": part(everyone, (eot(200, few),)),
        "autoattack": part(everyone, autoattack(few)),
        "stadv": part(everyone, (moved(few),)),
        "frozen": part((*alone, *(f"{k}{FROZEN}" for k in seven)), (eot(200, few),)),
        "known": part(games, (Attack("native", "PGD", {"steps": 20, **step}, knowledge=BLIND),
                              eot(50, s["of_games"]), moved(s["of_games"]))),
        "unseen": part(games, (Attack("native", "PGD", {"steps": 20, "best": False}, knowledge=BLIND),
                               eot(50, s["of_games"])), l2),
        "autoattack_l2": part((*alone, "RT2", "RT2 + AToP"), autoattack(few), l2),
        "checks": part((*alone, *(k + TUNED for k in KINDS)),
                       (Attack("native", "PGD", {"steps": probe.steps}, probe.images),), probe=probe),
    }  # fmt: skip
    pairs, games_l2 = tuple((game, "RT2") for game in GAMES), ("unseen", "autoattack_l2")
    return Experiment("atop", data, scale, of(data, scale), models(), parts, {
        POSTER: Table(SEVEN, COLUMNS, (IN_THE_BALL, ("frozen",)), GAINS),
        f"Linf {d.eps:g}, by what RT2 was fine-tuned against": Table(("known",), COLUMNS, (("known",),), pairs),
        f"L2 {d.eps_l2:g}, by what RT2 was fine-tuned against":
            Table(games_l2, COLUMNS, (games_l2[::-1], ("unseen",)), pairs),
    })  # fmt: skip


def of(data: str, scale: str) -> dict[str, Network]:
    """Classifiers; a generator pre-trained for each transform; and what it becomes when it is fine-tuned."""
    d, s = SETS[data], SCALES[scale]
    shape, known = {k: s[k] for k in SHAPE}, {k: s[k] for k in TRAINING}
    short = {k: v for k, v in known.items() if k not in ("epochs", "tuning_share", "weight")}
    usual: dict[str, Any] = {"attack": "fgsm", "eps": d.eps, "adversarial": s["adversarial"], "weight": s["weight"]}
    radius = {"Linf": d.eps, "L2": d.eps_l2}

    def recipe(epochs: int, rate: float) -> Recipe:
        return Recipe(epochs, adam(rate, (0.5, 0.999)), cosine(), s["train"], s["batch"])

    def kept(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        path = NETWORKS / f"{re.sub('[^a-z0-9]+', '_', name.lower())}.safetensors"
        facts = {"name": name, "channels": d.channels, **shape, **facts}
        return {"kept": path, "facts": facts} if data == "fashion_mnist" else {}

    def pretrained(kind: str) -> Network:
        return Network(lambda _: AToPPretraining(AToP(d.channels, kind, **shape), adversarial=s["adversarial"]),
                       lambda net, _: net, recipe(s["pretraining_epochs"], s["rate"]), **kept(kind, short))  # fmt: skip

    def tuned(name: str) -> Network:
        game: dict[str, Any] = {k: radius[v] if k == "eps" else v for k, v in GAMES.get(name, {}).items()}
        how = usual | {k: NORMS[v] if k == "norm" else v for k, v in game.items()}
        return Network(
            copied(name[:3]),
            lambda net, nets: AToPFineTuning(net.purifier, nets("classifier"), discriminator=net.discriminator, **how),
            recipe(s["epochs"], s["rate"] * s["tuning_share"]), **kept(name, known | game),
        )  # fmt: skip

    return {
        **classifiers(data, scale), **{kind: pretrained(kind) for kind in KINDS},
        **{name: tuned(name) for name in (*(kind + TUNED for kind in KINDS), *GAMES)},
    }  # fmt: skip


def models() -> dict[str, Model]:
    """The rows of the tables."""
    transform = RandomTransform("RT2")

    def purified(name: str, seed: int | None) -> Model:
        return Model("classifier", lambda nets: copy.deepcopy(nets(name).purifier).set_transform(seed))

    def disturbed(x: Tensor) -> Tensor:
        """RT2's noise and holes, and nothing that restores."""
        return transform(x, transform.draw(x))[0]

    names = dict.fromkeys((*KINDS, *(f"{k}{TUNED}" for k in KINDS), *GAMES))
    return {
        UNDEFENDED: Model("classifier"), ROBUST: Model("robust", robust=True),
        **{f"{name}{frozen}": purified(name, seed) for name in names for frozen, seed in (("", None), (FROZEN, 0))},
        NOISE: Model("classifier", lambda _: as_purifier(disturbed, stochastic=True, differentiable=True)),
    }  # fmt: skip


P = "atop_fashion_mnist_"
AWARE = (f"{P}averaged", f"{P}autoattack")
WORST_OF = (f"{P}blind", *AWARE)
CLAIMS = (
    *(
        Claim(f"fine-tuning {rt} makes it more robust to attacks on the classifier (Table 7)", numbers,
              gap(f"{P}blind", (f"{rt} + AToP", "native PGD-1000, blind"), (rt, "native PGD-1000, blind")),
              worst(WORST_OF, f"{rt} + AToP", rt))
        for rt, numbers in (("RT1", "0 to 39.45 %"), ("RT2", "67.97 to 84.38 %"), ("RT3", "70.31 to 73.44 %"))
    ),
    Claim("fine-tuned RT2 keeps more under the full gradient, PGD-200 + EOT-20 (authors' reply)",
          "64.06 against 56.25 %", gap(f"{P}averaged", ("RT2 + AToP", "native PGD-200"), ("RT2", "native PGD-200")),
          worst(WORST_OF, "RT2 + AToP", "RT2")),
    Claim("it keeps more of unseen attacks than adversarial training, here in L2 (Table 6)", "73.4 % in L2 1",
          gap(f"{P}unseen", ("RT2 + AToP", "native PGD-50"), (ROBUST, "native PGD-50")),
          "AutoAttack in L2 was not run on AToP; it leaves the other network next to nothing (see CD-VAE)"),
    Claim("fine-tuned RT2 defends against attacks on the classifier (Table 7), CIFAR-10's preset, PGD-20",
          "84.38 %", gap(CIFAR10, ("AToP", "native PGD-20, blind"), ("undefended", "native PGD-20")),
          worst(CIFAR10_ALL, "AToP", ROBUST)),
)  # fmt: skip
ROWS = tuple(Row(f"AToP, {rt}", "Fashion-MNIST", "PGD-1000 on the bare classifier", f"{P}blind",
                 "native PGD-1000, blind", AWARE, f"{rt} + AToP") for rt in KINDS)  # fmt: skip
REDRAWS = {r: f"R = {r}" for r in (1, 2, 3, 5, 10)}
"""Columns of `curves`."""


def page(folder: Path) -> list[str]:
    """The sections of the page, once all of its reports are there, and CD-VAE's in L2."""
    results, names = Results(folder, declare("fashion_mnist", "small")), (*SEVEN, "known", "unseen", "checks")
    reports, alone, beside = results.reports(names), (UNDEFENDED, ROBUST), "cdvae_fashion_mnist_white_l2"
    if {*names} - {*reports} or not there(folder, beside):
        return []
    more = {"autoattack_l2": several.only(Report.load(folder / f"{beside}.json"), alone, ["autoattack"])}
    facts, *others = (reports[k].provenance["data"]["purifiers"] for k in ("blind", "known", "unseen"))
    different = dict.fromkeys(f"{_generator(o)}, {_epochs(o)}" for o in others if o != facts)
    return [section(
        "Fashion-MNIST, before a classifier that was trained on clean images",
        "The classifier is `fashion_mnist_cnn`, Linf eps 0.1. RT1 hides blocks of the image, RT2 adds noise too, RT3 "
        "fills in turn the holes of masks that cover the image; `+ AToP` is fine-tuned against FGSM on the classifier. "
        "`blind` attackers see the classifier alone, as in Table 7 of the paper's poster; all others differentiate "
        "through the purifier and average over 20 draws; frozen ones, where attacker and defence share one draw, and "
        "networks without a purifier, which are attacked directly in every column, have no draws. PGD under EOT lets "
        "an image rest for ten steps while 20 fresh draws misclassify it; AutoAttack's `rand` is content with an "
        "example once one pass misclassifies it, which a redraw may forgive.",
        "Attacks saw as many images as their n says. Accuracies are means over ten redraws. The worst case is under "
        "every attack in the ball (StAdv has a bound of its own and does not count), over the images that all of these "
        f"saw: at R = 1 the mean over single redraws, at R = {several.STATED} the share of images that are right in "
        f"all of {several.STATED}, estimated from the ten without bias. The clean accuracy at R = {several.STATED} is "
        "what redraws cost without any attack. AutoAttack's examples were answered with other draws than the rest, so "
        "that R = 1 is one redraw for it and one for the others; the worst case of a frozen model counts its own "
        "PGD-200.",
        f"The generator is small ({_generator(facts)}; the released one has width 48 and no fold) and trained from "
        f"scratch on {facts['train']} images, {_epochs(facts)}; the released "
        "one starts from weights of Places2. The networks are in `atop_fashion_mnist_networks/`."
        + (f" Those of the tables by what RT2 was fine-tuned against are others: {'; '.join(different)}."
           if different else ""),
        ordering([reports[k] for k in SEVEN]) + " " +
        remains([reports[k] for k in IN_THE_BALL], [m + TUNED for m in KINDS], ROBUST),
        tables(reports | more),
        "In L2, AutoAttack was run on the networks without a purifier alone (see CD-VAE's tables): PGD hardly finds "
        "what breaks the adversarially trained one. The others' worst case is that of PGD, and `unseen | static "
        "baseline` holds PGD against PGD, which therefore says nothing against them.",
        sweeps(reports["checks"], alone),
        unhappy(reports | {"checks": without_sweeps(reports["checks"], alone)}),
        about(reports["blind"], purifiers=facts),
    )]  # fmt: skip


def _generator(facts: Mapping[str, Any]) -> str:
    return f"width {facts['width']}, fold {facts.get('fold', 1)}"


def _epochs(facts: Mapping[str, Any]) -> str:
    return f"{facts['pretraining_epochs']} + {facts['epochs']} epochs"


def tables(reports: Mapping[str, Report]) -> list[str]:
    """Table 7 beside the strongest attacks, what redraws make of it, and fine-tuning against one attack or another."""
    tuned, lines = [kind + TUNED for kind in KINDS], []
    ball = [reports[k] for k in IN_THE_BALL if k in reports]
    for title, table in declare("fashion_mnist", "small").tables.items():
        if reports.keys() & {*table.parts}:
            lines += [laid_out(table, reports)] if title == POSTER else [f"{title}:", laid_out(table, reports)]
        if title == POSTER and "averaged" in reports and {*tuned} & {*reports["averaged"].models()}:
            lines += [
                "By the number of redraws, R, that all have to be right; the ten that were made give each value "
                "without bias. It falls with R without a limit, so models are compared at one R; what draws nothing "
                "keeps the same at each.",
                curves(ball, tuned), differences(ball, [pair for pair in GAINS if {*pair} <= {*tuned}]),
            ]  # fmt: skip
    return lines


def ordering(reports: Sequence[Report]) -> str:
    """A sentence on the columns in which the poster's order holds, as told by the paired differences of neighbours."""
    found: dict[str, list[str]] = {"holds": [], "holds in the means alone": [], "does not hold": []}
    for column, titles in COLUMNS.items():
        cells = [c for kind in ORDER if (c := several.cell(reports, kind + TUNED, titles)) is not None]
        if len(cells) < len(ORDER):
            continue
        kept = common(*(c.survived for c in cells))
        gaps = [paired_difference(a, b) for a, b in pairwise(kept)]
        verdict = "holds" if all(g.low > 0 for g in gaps) else "holds in the means alone"
        found[verdict if all(g.mean > 0 for g in gaps) else "does not hold"].append(f"{column} (n={len(kept[0])})")
    told = "; it ".join(f"{verdict} under {', '.join(columns)}" for verdict, columns in found.items() if columns)
    return f"The poster's order of the fine-tuned ones, {' > '.join(ORDER)}, {told}." if told else ""


def remains(reports: Sequence[Report], names: Sequence[str], beside: str) -> str:
    """A sentence on which of the models keeps most in the worst case, at R = 1 and at the stated R, and the one beside.

    Args:
        reports: of the same images.
        names: those that are compared, over the images that all of them saw.
        beside: a model that draws nothing.
    """
    models = _there(reports, names)
    if not models or not _there(reports, [beside]):
        return ""
    every = {m: several.counted(reports, m) for m in (*models, beside)}
    n = min(c.images for of_model in every.values() for c in of_model)
    cells = {m: several.first(of_model, n) for m, of_model in every.items()}
    told = []
    for r in (1, several.STATED):
        kept = {m: left(cells[m], r) for m in models}
        leading, *others = sorted(models, key=lambda m: -sum(kept[m]))
        text = f"at R = {r} {leading} is the best of them with {worst_of(cells[leading], r)}"
        if others:
            text += f", {paired_difference(kept[leading], kept[others[0]]).points} above {others[0]}"
        told.append(text)
    return (
        f"In the worst case {'; '.join(told)}. The adversarially trained network, which purifies nothing, keeps "
        f"{worst_of(cells[beside])} at every R."
    )


def curves(reports: Sequence[Report], models: Sequence[str]) -> str:
    """Two rows a model, clean and worst case, by R, as Markdown."""
    rows = [
        {"model": f"{model}, {what}", **_by_redraws(lambda r, held: str(worst_of(held, r)), cells)}
        for model in _there(reports, models)
        for what, cells in _answers(reports, model).items()
    ]
    return several.grid(["model", *REDRAWS.values()], rows)


def differences(reports: Sequence[Report], pairs: Sequence[tuple[str, str]]) -> str:
    """Two rows a pair of models: by how many points the first keeps more, by R, on the same images, as Markdown."""

    def gap(r: int, *both: Sequence[Cell]) -> str:
        return several.gap(*common(*(left(cells, r) for cells in both)))

    rows = []
    for pair in (p for p in pairs if len(_there(reports, p)) == len(p)):
        ours, theirs = (_answers(reports, model) for model in pair)
        name = " minus ".join(pair)
        rows += [{several.POINTS: f"{name}, {k}", **_by_redraws(gap, ours[k], theirs[k])} for k in ours]
    return several.grid([several.POINTS, *REDRAWS.values()], rows)


def _by_redraws(entry: Callable[..., str], *sides: Sequence[Cell]) -> dict[str, str]:
    """What is told of some cells, by R, as far as all of them were redrawn so often."""
    most = min(c.repeats for cells in sides for c in cells)
    return {name: entry(r, *sides) for r, name in REDRAWS.items() if r <= most}


def _answers(reports: Sequence[Report], model: str) -> dict[str, list[Cell]]:
    """The cells that a model's two rows count: clean images alone, and every attack in the ball."""
    clean = next(r for r in reports if model in r.models()).clean(model)
    return {"no attack": [clean], "worst case": several.counted(reports, model)}


def _there(reports: Sequence[Report], models: Sequence[str]) -> list[str]:
    return [m for m in models if any(m in r.models() for r in reports)]
