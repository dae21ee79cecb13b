"""DRRDN (Yang et al., AAAI 2021): beside three classifiers trained alike, its ablation, hybrids, and read-outs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from art_ext.classifiers import ClassifierObjective, SmallCNN, TradesObjective, WideResNet
from art_ext.classifiers.drrdn import PAPER, DRRDNObjective, SmallDRRDN, WideDRRDN, diagnose, read_out
from art_ext.evaluation import Attack, Cell, Report, Threat, mean_interval, paired_difference
from art_ext.evaluation.report import several
from art_ext.nn import evaluating, seeded, trainable
from art_ext.plots import representation_map
from art_ext.training import Batches, Objective
from experiments.attackers import FULL
from experiments.claims import CIFAR10, CIFAR10_ALL, Claim, Row, gap, hybrids, worst
from experiments.core import Experiment, Item, Model, Part, Table, Work
from experiments.data import SETS
from experiments.lab import Lab
from experiments.networks import Network, Recipe, falling
from experiments.page import Results, about, grid, laid_out, means, section, unhappy

GAME = {"domain": 0.1, "adversarial": 0.05, "entropy": 0.1}
SCALES: Mapping[str, dict[str, Any]] = {
    "small": {"images": 2000, "first": 1000, "long": 1000, "ablated": 1000, "epochs": 4, "batch": 64, "rate": 0.05,
              "trades_rate": 0.05, "critic_rate": 1e-3, "weight_decay": 5e-4, "beta": 6.0, "lambda_mi": 0.1,
              "lambda_rec": 0.1, "weights": GAME, "pace": (0.4, 0.3), "shape": {"width": 16, "hidden": 200},
              "attack": {"steps": 5, "step_size": 1 / 3}},
    "paper": {"images": 1000, "first": 0, "long": 512, "ablated": 1000, "epochs": 100, "batch": 128, "rate": 0.1,
              "trades_rate": 0.1, "critic_rate": 1e-3, "weight_decay": 5e-4, "beta": 6.0, "lambda_mi": 0.1,
              "lambda_rec": 0.1, "weights": {"domain": 1.0, "adversarial": 1.0, "entropy": 1.0}, "pace": None,
              "shape": {"depth": 28, "widen": 10}, "attack": {}},
}  # fmt: skip
"""The paper's weights of Eqs. 6 to 8 are 1; its lambdas are in a supplement that is not to be had."""
OFF = {"domain": 0.0, "adversarial": 0.0, "entropy": 0.0}
VARIANTS: Mapping[str, dict[str, Any]] = {
    "DRRDN": {}, "DRRDN-MI": {"lambda_mi": 0.0}, "DRRDN-REC": {"lambda_rec": 0.0},
    "halves": {"lambda_mi": 0.0, "lambda_rec": 0.0, "weights": OFF},
}  # fmt: skip
MODELS = ("Standard", "Madry", "TRADES", "DRRDN")
COMPARED = (*MODELS, "halves")
PAIRS = tuple(("DRRDN", other) for other in ("TRADES", "Madry", "halves"))
COLUMNS = {k: (k,) for k in ("FGSM, step 0.1", "FGSM", "PGD-40", "PGD-100", "CW-40", "CW-100")}
COLUMNS |= {"AutoAttack": ("autoattack standard",)}
TABLES = {
    "White box": Table(("white", "autoattack"), COLUMNS, (("white", "autoattack"),), PAIRS,
                       tuple(k for k in COLUMNS if "FGSM" not in k)),
    "Ablation": Table(("ablation",), {k: COLUMNS[k] for k in ("PGD-40", "PGD-100")}, (),
                      tuple(("DRRDN", k) for k in [*VARIANTS][1:]), ("PGD-100",)),
}  # fmt: skip
REPORTS = ("white", "before", "autoattack", "transfer", "ablation")
BEFORE, LATER, BOTH = "PGD-40, the images before", "PGD-40, the images of the tables", "PGD-40, both"
ITEMS = (
    Item(
        "Table 1", "white-box and transferred attacks, MNIST", ("white", "transfer", "autoattack", "before"), ("mnist",)
    ),
    Item("Table 2", "the same on CIFAR-10", ("white", "transfer", "autoattack"), ("cifar10",)),
    Item("Table 3", "hybrid representations", ("hybrid",)),
    Item("Table 4", "without mutual information, without reconstruction", ("ablation",)),
    Item("Figure 1", "the networks"),
    Item("Figure 2", "t-SNE of the parts", ("hybrid",)),
)
DECLARED = ("mnist", "fashion_mnist", "cifar10")


def declare(data: str, scale: str) -> Experiment:
    """The table of settings."""
    d, s = SETS[data], SCALES[scale]
    step = d.eps / 30 if d.channels == 1 else 0.003
    linf = Threat("Linf", d.eps if d.channels == 1 else 0.031)
    fgsm = Attack("native", "FGSM", {"step_size": 10 * step}, label=f"FGSM, step {10 * step:g}")
    keys = ("epochs", "rate", "trades_rate", "critic_rate", "weight_decay", "beta", "lambda_mi", "lambda_rec")
    said = {k: s[k] for k in keys} | s["weights"] | {"train_steps": PAPER[_paper(data)]["steps"], **s["attack"]}

    def iterated(loss: str, steps: int) -> Attack:
        options = {"steps": steps, "step_size": step, "best": False, "loss": loss}
        return Attack("native", "PGD", options, label=f"{'CW' if loss == 'margin' else 'PGD'}-{steps}")

    def part(models: tuple[str, ...], attacks: tuple[Attack, ...], images: int, **more: Any) -> Part:
        options = {"knowledge": FULL, "about": said, "first": s["first"], **more}
        return Part(models, attacks, linf, images=images, **options)

    both = tuple(iterated(loss, k) for loss in ("cross_entropy", "margin") for k in (40, 100))
    parts: dict[str, Part | Work] = {
        "white": part(COMPARED, (fgsm, Attack("native", "FGSM", label="FGSM"), *both), s["images"]),
        "autoattack": part(COMPARED, (Attack("autoattack", "standard", images=s["long"]),), s["images"]),
        "transfer": part(MODELS, (iterated("cross_entropy", 40 if d.channels == 1 else 20),), s["images"],
                         options={"cross": True}),
        "ablation": part(tuple(VARIANTS), both[:2], s["ablated"]),
        "hybrid": Work(hybrid, ("Standard", "DRRDN")),
    }  # fmt: skip
    if s["first"]:  # the images before those of the tables
        parts["before"] = part(COMPARED, both[:1], s["first"], first=0)
    named = {k: Model(k, robust=k != "Standard") for k in (*COMPARED, *VARIANTS)}
    return Experiment("drrdn", data, scale, of(data, scale), named, parts, TABLES)


def _paper(data: str) -> str:
    """The paper's data set whose training attack is taken."""
    return "cifar10" if data == "cifar10" else "mnist"


def of(data: str, scale: str) -> dict[str, Network]:
    """Networks of the same layers at inference, images, epochs, and shape of the rate's curve."""
    d, s, small = SETS[data], SCALES[scale], scale == "small"
    attack = dict(PAPER[_paper(data)])
    if small:
        attack = {"eps": d.eps, "steps": s["attack"]["steps"], "step_size": d.eps * s["attack"]["step_size"]}
    games: dict[str, Callable[[Any], Objective]] = {
        "Standard": ClassifierObjective,
        "Madry": lambda net: ClassifierObjective(net, **attack),
        "TRADES": lambda net: TradesObjective(net, beta=s["beta"], **attack),
    }

    def make(kind: Any) -> nn.Module:
        found: nn.Module = kind(d.channels, 10, **s["shape"])
        return found.to(memory_format=torch.channels_last) if small else found  # type: ignore[call-overload]

    def network(name: str) -> Network:
        plain, disentangled = (SmallCNN, SmallDRRDN) if small else (WideResNet, WideDRRDN)
        how = {k: s[k] for k in ("lambda_mi", "lambda_rec", "weights")} | VARIANTS.get(name, {})
        objective = games.get(name, lambda net: DRRDNObjective(net, **attack, **how))
        rate = s["trades_rate" if name == "TRADES" else "rate"]
        recipe = Recipe(s["epochs"], lambda o: optimizers(o, rate, s), None if s["pace"] else falling(0.55, 0.75, 0.9),
                        batch=s["batch"], pace=s["pace"])  # fmt: skip
        kind: Any = disentangled if name in VARIANTS else plain
        return Network(lambda _: make(kind), lambda net, _: objective(net), recipe)

    return {name: network(name) for name in (*COMPARED, *VARIANTS)}


def optimizers(game: Objective, rate: float, s: Mapping[str, Any]) -> dict[str, Any]:
    """The same SGD for all networks but its rate, Adam for the critic; decay where parameters move first."""

    def optimizer(player: str, parameters: Any) -> torch.optim.Optimizer:
        if player == "critic":
            return torch.optim.Adam(parameters, s["critic_rate"])
        decay = s["weight_decay"] if player in ("classifier", "classifiers") else 0.0
        return torch.optim.SGD(parameters, rate, 0.9, weight_decay=decay)

    return {player: optimizer(player, parameters) for player, parameters in game.players().items()}


def hybrid(lab: Lab) -> dict[str, Any]:
    """Table 3: what the Standard model's head, fine-tuned on rebuilt natural representations, says about hybrids."""
    standard, model, s = lab("Standard"), lab("DRRDN"), SCALES[lab.experiment.scale]
    head = fine_tuned(copy.deepcopy(standard.head), model, lab)
    test = lab.test(s["images"], s["first"])
    with trainable((), model.parameters()):
        x_adv = lab.attacked(model, test, 40, 1 / 30)
    with evaluating(model, head), torch.no_grad():
        found = model.hybrids(test.x, x_adv)
        rows = [{"hybrid": k, "correct": (head(z).argmax(1) == test.y).tolist()} for k, z in found.items()]
    told = diagnose(model, test.x, x_adv, test.y) | read_out(model, test.x, x_adv, test.y)
    lab.picture("figure2", figure2(standard, model, test.y, (test.x, x_adv)))
    return {"rows": rows, "parts": told} | lab.stated({"images": len(test.x), "first": s["first"]})


def fine_tuned(head: nn.Module, model: Any, lab: Lab) -> nn.Module:
    """A head trained on r(z_s, z_i) of natural images for one epoch of Adam; it saw no adversary."""
    data = lab.train()
    head.train().requires_grad_(True)
    optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    with seeded(lab.seed):
        for x, y in Batches(data.x, data.y, batch_size=64, seed=lab.seed).epoch(0):
            assert y is not None
            with torch.no_grad():
                _, z_s, z_i = model.represent(x.to(lab.device))
                z = model.reconstruct(z_s, z_i)
            optimizer.zero_grad()
            F.cross_entropy(head(z), y.to(lab.device)).backward()
            optimizer.step()
    return head.eval()


def figure2(standard: Any, model: Any, y: Tensor, images: Sequence[Tensor]) -> Figure:
    """t-SNE of the parts of images and of adversaries, and of what the Standard model makes of them."""

    def plain(x: Tensor) -> Tensor:
        small = hasattr(standard, "features")
        found: Tensor = standard.features(x) if small else standard.stages(standard.stem(x)).mean((2, 3))
        return found.flatten(1)

    with torch.no_grad():
        parts = [(model.represent(x), plain(x)) for x in images]
    shown = [{"class-specific": p.z_s, "class-irrelevant": p.z_i, "standard": z} for p, z in parts]
    clean, adversarial = ({k: v.cpu().numpy() for k, v in found.items()} for found in shown)
    return representation_map(clean, adversarial, y.cpu().numpy())


P = "drrdn_mnist_"
STRONG = (f"{P}white", f"{P}autoattack")
CLAIMS = (
    Claim("it keeps more than TRADES under PGD-40, MNIST (Table 1)", "97.55 against 96.95 %",
          gap(f"{P}white", ("DRRDN", "PGD-40"), ("TRADES", "PGD-40")), worst(STRONG, "DRRDN", "TRADES")),
    Claim("and more than Madry's training (Table 1)", "97.55 against 96.58 %",
          gap(f"{P}white", ("DRRDN", "PGD-40"), ("Madry", "PGD-40")), worst(STRONG, "DRRDN", "Madry")),
    Claim("disentangling is what does it: more than the same network without (Table 4), PGD-100",
          "96.78 against 96.25 % without MI",
          gap(f"{P}ablation", ("DRRDN", "PGD-100"), ("DRRDN-MI", "PGD-100")),
          "no stronger attack was run on DRRDN without MI"),
    Claim("our own control of it: more than the same network with the loss of the class alone (`halves`), PGD-100",
          "not in the paper",
          gap(f"{P}ablation", ("DRRDN", "PGD-100"), ("halves", "PGD-100")), worst(STRONG, "DRRDN", "halves")),
    Claim("an adversary's class-irrelevant part does more harm than its class-specific one (Table 3)",
          "99.02 against 95.82 %", hybrids(f"{P}hybrid")),
    Claim("it keeps more than Madry's training (Table 2), CIFAR-10's preset beside N-FGSM training, PGD-20",
          "52.32 against 45.49 %", gap(CIFAR10, ("DRRDN", "native PGD-20"), ("adversarially trained", "native PGD-20")),
          worst(CIFAR10_ALL, "DRRDN", "adversarially trained")),
)  # fmt: skip
ROWS = (Row("DRRDN", "MNIST", "PGD-100", f"{P}white", "PGD-100", (f"{P}autoattack",), "DRRDN", ("Madry", "TRADES")),)
TRAINING = (
    "train", "epochs", "batch_size", "rate", "weight_decay", "rise", "warmup", "width", "hidden", "dropout",
    "normalised",
)  # fmt: skip


def page(folder: Path) -> list[str]:
    """The sections of the page, once all of its results are there."""
    results = Results(folder, declare("mnist", "small"))
    reports, found = results.reports(REPORTS), results.values("hybrid")
    if not found or {*REPORTS} - {*reports}:
        return []
    facts, ablated = reports["white"].provenance["data"], reports["ablation"].provenance["data"]
    otherwise = [f"`{k}` {ablated[k]}" for k in TRAINING if k in facts and ablated.get(k) != facts[k]]
    of_trades = f" (TRADES': {facts['trades_rate']:g})" if facts["trades_rate"] != facts["rate"] else ""
    return [section(
        "MNIST",
        f"Linf eps 0.3; every network has the same layers at inference, images, epochs ({facts['epochs']}), and attack "
        f"steps ({facts['train_steps']}), one seed. The rate rises to {facts['rate']:g}{of_trades} and falls to 0. "
        "`halves` is DRRDN's network with the loss of the class alone. CW is PGD on the margin. MNIST test images from "
        "number 1,000 on: settings were changed once after a run on those before and once after a run on these, by "
        "trials on training images. MNIST's images go by their writers, so that these are no random draw of all, which "
        "their intervals do not know. The paper, with 100 epochs and other networks, has clean / PGD-40 / PGD-100 of "
        "99.45 / 96.58 / 95.32 for Madry, 99.50 / 96.95 / 95.73 for TRADES and 99.56 / 97.55 / 96.78 for DRRDN, and "
        "nothing under AutoAttack.",
        tables(reports),
        f"The ablation is of an earlier run, in which: {', '.join(otherwise)}." if otherwise else "",
        "Hybrids (Table 3): DRRDN's reconstructor puts z together from parts of natural images and of their "
        "adversaries (primed, PGD-40), and the Standard model's head, fine-tuned on natural ones, reads it. Below, as "
        "shares of right answers, what DRRDN's own heads and fresh ones read from its parts: c_i and `domain` natural "
        "or adversarial, of which 0.5 is chance, c_s and `class` the class; `mutual_information` is in nats.",
        means(("hybrid", "accuracy"), {r["hybrid"]: r["correct"] for r in found["rows"]}),
        "\n".join(f"- {k}: {v:.3f}" for k, v in found["parts"].items()),
        "Figure 2 (t-SNE): z_s, z_i, and what the Standard model makes of the same images; adversaries are those made "
        "on DRRDN.", results.picture("figure2", "Figure 2"),
        unhappy(reports), about(reports["white"], training=facts),
    )]  # fmt: skip


def tables(reports: Mapping[str, Report]) -> list[str]:
    """Tables 1 and 4; without AutoAttack no model has a worst case."""
    before: list[str] = []
    if "before" in reports:
        images = reports["before"].provenance["images"]
        before = [f"With the {images} images before them, added once the above was seen:", pooled(reports),
                  *replication(reports)]  # fmt: skip
    names, matrix = reports["transfer"].transfer_matrix("PGD-40")
    return [
        laid_out(TABLES["White box"], reports), *before,
        "PGD-40 made on the model of the column, tried on that of the row:",
        grid(["model", *names], [[m, *(str(matrix[s, m]) for s in names)] for m in names]), "Ablation:",
        laid_out(TABLES["Ablation"], reports),
    ]  # fmt: skip


def pooled(reports: Mapping[str, Report]) -> str:
    """Clean images and PGD-40 on the images of `before` and of `white` together."""
    titles = {"clean": ("clean, none",), "PGD-40": COLUMNS["PGD-40"]}
    found = [[m, *(str(mean_interval([*chain(*_answers(reports, m, t))])) for t in titles.values())] for m in COMPARED]
    return grid(["model", *titles], found)


def replication(reports: Mapping[str, Report]) -> list[str]:
    """DRRDN minus the others under PGD-40 on the images of `before`, on those of `white`, and on both.

    A sentence says which differences the latter show and the former by themselves do not.
    """
    rows, alone = [], []
    for pair in PAIRS:
        ours, theirs = (_answers(reports, m, COLUMNS["PGD-40"]) for m in pair)
        name = " minus ".join(pair)
        gaps = [several.gap(a, b) for a, b in zip(ours, theirs, strict=True)]
        rows.append([name, *gaps, several.gap([*ours[0], *ours[1]], [*theirs[0], *theirs[1]])])
        before, later = (paired_difference(a, b) for a, b in zip(ours, theirs, strict=True))
        alone += [name] if later.low > 0 >= before.low else []
    told = f"Shown by the images of the tables and not by those before alone: {', '.join(alone)}." if alone else ""
    return [grid([several.POINTS, BEFORE, LATER, BOTH], rows), *filter(None, [told])]


def _answers(reports: Mapping[str, Report], model: str, titles: Sequence[str]) -> list[list[float]]:
    """Per image of `before` and of `white`, whether it is right."""
    cells: list[Cell | None] = [several.cell([reports[k]], model, titles) for k in ("before", "white")]
    return [[] if c is None else c.survived for c in cells]
