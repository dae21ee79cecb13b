"""DIR (Zhou et al., ICML 2023): before an adversarially trained target, frozen or trained with it, and ablations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from art.defences.preprocessor import JpegCompression
from torch import Tensor, nn

from art_ext import plots, presets
from art_ext.attacks import Averaged
from art_ext.classifiers import ClassifierObjective, TradesObjective
from art_ext.data import Images
from art_ext.defences import ArtPurifier
from art_ext.evaluation import Attack, Probe, Report, Threat
from art_ext.evaluation.report import several
from art_ext.evaluation.report.worst import left
from art_ext.nn import seeded
from art_ext.objectives import DIRPretraining, DIRRestoration
from art_ext.purifiers import DIR
from art_ext.purifiers.dir import per_mask_restorations, representation_attack, share_discarded, slopes
from experiments.attackers import ADAPTIVE, AUTOATTACK, BPDA, FULL, autoattack, native
from experiments.claims import CIFAR10_ALL, Claim, Row, gap, of_presets, worst
from experiments.core import Experiment, Item, Model, Part, Table, Work
from experiments.data import SETS
from experiments.lab import Lab, answers, attacked
from experiments.networks import PRESETS, Network, Recipe, adam, classifiers, copied, cosine, falling, own, sgd, shipped
from experiments.page import Results, ablations, about, common, grid, laid_out, made_by, means, section, show, unhappy

PIXEL = 10.0
"""Weight of the squared error in the small tables, which the paper adds only where it leaves out the pre-training."""
SCALES: Mapping[str, dict[str, Any]] = {
    "small": {"neighbours": 5, "images": 512, "strong": 512, "batch": 64,
              "shape": {"patch": 4, "width": 48, "heads": 3, "depth": 3, "decoder_depth": 1},
              "target": Recipe(20), "pretraining": Recipe(24, adam(1e-3), cosine(0)),
              "restoration": Recipe(10, adam(1e-3), cosine(0)), "joint": Recipe(10, own, cosine(0)),
              "further": Recipe(10, sgd(0.1, 2e-4), cosine(0)), "ablation": (16, 3, 4000),
              "settings": {"alpha": 1.0, "pixel": PIXEL, "per_mask": True}},
    "paper": {"neighbours": 20, "images": 1000, "strong": 512, "batch": 128,
              "shape": {"patch": 2, "width": 192, "heads": 3, "depth": 8, "decoder_depth": 2},
              "target": Recipe(90, sgd(0.1, 2e-4), falling(5 / 6), batch=128),
              "pretraining": Recipe(20, own, None, batch=128),
              "restoration": Recipe(90, own, falling(5 / 6), batch=128),
              "joint": Recipe(90, own, falling(5 / 6), batch=128),
              "further": Recipe(90, sgd(0.1, 2e-4), falling(5 / 6), batch=128), "ablation": (20, 90, None),
              "settings": {}},
}  # fmt: skip
TARGET, DEFENDED, FROZEN, JPEG = "target alone", "DIR", "DIR, masks frozen", "JPEG (quality 50)"
ARMS = {"frozen": "DIR, target frozen", "joint": "DIR, target trained with it", "further": f"{TARGET}, trained further"}
PRESET = "the preset `fashion_mnist_dir`"
FULL_METHOD = "full (alpha 2, ratio 50 %, depth 3 + 1)"
VARIANTS: Mapping[str, tuple[dict[str, Any], bool, dict[str, Any]]] = {  # shape, pre-training, second stage
    FULL_METHOD: ({}, True, {}),
    "no squared error (Eq. 7 as printed)": ({}, True, {"pixel": 0.0}),
    "no pre-training": ({}, False, {}),
    "alpha 0 (no L_rep)": ({}, True, {"alpha": 0.0}),
    "alpha 5": ({}, True, {"alpha": 5.0}),
    "ratio 30 %": ({"ratio": 0.3}, True, {}),
    "ratio 70 %": ({"ratio": 0.7}, True, {}),
    "depth 1 + 1": ({"depth": 1}, True, {}),
    "depth 3 + 2": ({"decoder_depth": 2}, True, {}),
    "target trained too (released code)": ({}, True, {"joint": True, "alpha": 1.0, "pixel": 0.0}),
}
ABLATED = {"clean": "clean", "pgd": "PGD-20", "eot": "PGD-20 + EOT", "frozen": "PGD-20, masks frozen"}
WATCHED = 256
"""Training images on which DIR is compared with its target."""
DLR = {"APGD-100 DLR": ("native APGD-100 dlr",)}
COLUMNS = {
    **native("PGD-20"), "MI-20": ("native MI-FGSM-20",), "VNI-20": ("torchattacks VNI-FGSM-20",),
    "BPDA + EOT-20, PGD-40": ("native PGD-40, bpda", "native PGD-40"),
    "Eq. 8, PGD-40": ("Eq. 8, PGD-40, adaptive", "Eq. 8, PGD-40"),
    **native("PGD-200 + EOT-20"), "AutoAttack": AUTOATTACK, **DLR,
}  # fmt: skip
OF_TARGETS = native("PGD-20", "PGD-40 + EOT-20", "APGD-100") | DLR | native("PGD-200 + EOT-20", "AutoAttack")
TABLES = {
    "Before an adversarially trained target": Table(("paper", "strong", "frozen"), COLUMNS, (("strong", "paper"),
                                                    ("frozen",)), ((DEFENDED, TARGET),)),
    "Before a frozen target, and one trained with it": Table(("targets",), OF_TARGETS, (("targets",),)),
    "Before other targets": Table(("others",), COLUMNS, (("others",),)),
}  # fmt: skip
ITEMS = (
    Item("Table 1", "PGD, MI, VNI and AutoAttack, beside other purifiers", ("paper", "strong")),
    Item("Table 2", "before targets of another training (TRADES)", ("others",)),
    Item("Table 3", "BPDA + EOT, Eq. 8 and Eq. 9", ("strong", "diagnostics")),
    Item("Table 4", "before a naturally trained target", ("others",)),
    Item("Table 5", "depths", ("ablation",)),
    Item("Figure 1", "the idea"),
    Item("Figure 2", "what is left of noise and of the class where pixels are discarded", ("discarding",)),
    Item("Figure 3", "the networks"),
    Item("Figure 4", "restorations of attacked images", ("pictures",)),
    Item("Figure 5", "classes apart in restored representations, under attack", ("pictures",)),
    Item("Figure 6", "alpha, and adversarial training for as long", ("ablation", "targets")),
    Item("Figure 7", "restorations beside those of another purifier", ("pictures",)),
)
DECLARED = ("fashion_mnist", "mnist", "cifar10")


def declare(data: str, scale: str) -> Experiment:
    """The table of settings."""
    d, s = SETS[data], SCALES[scale]
    linf, known = Threat("Linf", d.eps), BPDA + FULL + ADAPTIVE
    step = {"step_size": d.eps / 4, "best": False}
    once: dict[str, Any] = {"eot_samples": 1, "knowledge": FULL}
    pgd20 = Attack("native", "PGD", {"steps": 20, **step}, **once)
    pgd200 = Attack("native", "PGD", {"steps": 200, "best": False}, knowledge=FULL)
    aware = Attack("native", "PGD", {"steps": 40, **step}, eot_samples=1, knowledge=ADAPTIVE, label="Eq. 8, PGD-40")
    arms = [f"{title}, seed 0" for title in ARMS.values()]
    parts: dict[str, Part | Work] = {
        "paper": Part((TARGET, DEFENDED, "RDP", JPEG), (
            pgd20, Attack("native", "MI-FGSM", {"steps": 20, **step}, **once),
            Attack("torchattacks", "VNI-FGSM", {"steps": 20, "step_size": d.eps / 4, "N": s["neighbours"]}, **once),
        ), linf, known, s["images"]),
        "strong": Part((TARGET, DEFENDED), (
            Attack("native", "PGD", {"steps": 40, **step}, knowledge=BPDA), aware, pgd200, *autoattack(),
        ), linf, known, s["strong"], probe=Probe(32, 20, seeds=3)),
        "frozen": Part((TARGET, FROZEN), (
            pgd20, Attack("native", "PGD", {"steps": 200}, knowledge=FULL),
            Attack("native", "APGD", {"steps": 100, "loss": "dlr"}, knowledge=FULL), aware,
        ), linf, known, s["images"]),
        "targets": Part((TARGET, *arms), (
            pgd20, *(Attack("native", name, {"steps": n, **loss}, few, knowledge=FULL) for name, n, loss, few in (
                ("PGD", 40, {}, None), ("APGD", 100, {}, 64), ("APGD", 100, {"loss": "dlr"}, 64),
                ("PGD", 200, {}, 64))),
            Attack("native", "AutoAttack", images=64, knowledge=FULL),
        ), linf, FULL, 256 if scale == "small" else 512, probe=Probe(), options={"repeats": 5}),
        "others": Part(("TRADES target", "DIR before the TRADES target", "natural target",
                        "DIR before the natural one"), (pgd20, pgd200, *autoattack()), linf, known, s["strong"]),
        "diagnostics": Work(diagnostics, ("robust", "DIR")),
        "discarding": Work(discarding, ("robust", "classifier")),
        "pictures": Work(pictures, ("robust", "DIR")),
        "targets_training": Work(targets_training, ("robust", "DIR")),
        "ablation": Work(ablation, ("robust", "ablation"), file="dir_ablation" if data == "fashion_mnist" else ""),
    }  # fmt: skip
    return Experiment("dir", data, scale, of(data, scale), models(data), parts, TABLES)


def of(data: str, scale: str) -> dict[str, Network]:
    """Targets, DIR in its two stages, what `targets` compares, and the variants of the ablation."""
    d, s, small = SETS[data], SCALES[scale], scale == "small"
    at: dict[str, Any] = {"eps": d.eps, "steps": 5, "step_size": d.eps / 4}
    attack: dict[str, Any] = {"eps": d.eps} if small else at
    found = classifiers(data, scale)

    def targeted(make: Callable[[Any], nn.Module], recipe: Recipe, objective: Any = ClassifierObjective) -> Network:
        return Network(make, lambda net, _: objective(net, **at), recipe)

    def pre(target: str, shape: Mapping[str, Any], recipe: Recipe) -> Network:
        return Network(lambda _: DIR(**{"channels": d.channels, **s["shape"], **shape}),
                       lambda net, nets: DIRPretraining(net, nets(target), **attack), recipe)  # fmt: skip

    def restored(begin: str, target: str, recipe: Recipe, **how: Any) -> Network:
        return Network(
            lambda nets: copy.deepcopy(nn.ModuleDict({"purifier": nets(begin), "target": nets(target)})),
            lambda net, _: DIRRestoration(net["purifier"], net["target"], **attack, **how), recipe,
        )  # fmt: skip

    if not small or data not in PRESETS:
        found["robust"] = targeted(found["robust"].make, s["target"])
    found["TRADES"] = targeted(found["classifier"].make, s["target"], TradesObjective)
    for target in ("robust", "classifier"):
        found[f"before {target}"] = pre(target, {}, s["pretraining"])
    found["DIR, frozen"] = restored("before robust", "robust", s["restoration"], **s["settings"])
    found["DIR, joint"] = restored("before robust", "robust", s["joint"], alpha=1.0, joint=True)
    found["DIR, natural"] = restored("before classifier", "classifier", s["restoration"], **s["settings"])
    found["further"] = targeted(copied("robust"), s["further"])
    dir_ = Network(lambda nets: nets("DIR, frozen/purifier"))
    found["DIR"] = shipped(f"{data}_dir", dir_) if small else dir_
    found["RDP"] = shipped(f"{data}_rdp", Network(lambda _: nn.Identity()))
    first, second, images = s["ablation"]
    for name, (shape, pretrained, game) in VARIANTS.items():
        begin = f"ablation, pretraining {shape}" if pretrained else "ablation, nothing"
        found[begin] = pre("robust", shape, Recipe(first, images=images))
        if not pretrained:
            found[begin] = Network(found[begin].make)
        recipe = Recipe(second, own if "joint" in game else adam(2e-4), images=images)
        found[f"ablation, {name}"] = restored(begin, "robust", recipe, **{"pixel": PIXEL, **game})
    return found


def models(data: str) -> dict[str, Model]:
    """The rows of the tables."""
    return {
        TARGET: Model("robust", robust=True), DEFENDED: Model("robust", "DIR"),
        FROZEN: Model("robust", lambda nets: copy.deepcopy(nets("DIR")).set_masks(0)),
        "RDP": Model("robust", "RDP" if data in PRESETS else None),
        JPEG: Model("robust", lambda _: ArtPurifier(JpegCompression((0, 1), quality=50, channels_first=True))),
        "TRADES target": Model("TRADES", robust=True), "DIR before the TRADES target": Model("TRADES", "DIR"),
        "natural target": Model("classifier"),
        "DIR before the natural one": Model("classifier", "DIR, natural/purifier"),
        f"{ARMS['further']}, seed 0": Model("further", robust=True),
        **{f"{ARMS[arm]}, seed 0": Model(f"DIR, {arm}/target", f"DIR, {arm}/purifier") for arm in ("frozen", "joint")},
    }  # fmt: skip


def diagnostics(lab: Lab) -> dict[str, Any]:
    """Answers of the target on perturbed restorations (Eq. 9), and on those of a perturbation a mask (Eq. 8)."""
    data, target, purifier, steps = (
        lab.test(SCALES[lab.experiment.scale]["images"]), lab("robust"), lab("DIR"), lab.steps(20)
    )  # fmt: skip
    how: dict[str, Any] = {"eps": lab.eps, "step_size": lab.eps / 4}

    def perturbed(x: Tensor, y: Tensor) -> Tensor:
        return representation_attack(purifier, target, x, y, steps=steps, **how)

    def through(x: Tensor, y: Tensor) -> Tensor:
        return attacked(nn.Sequential(purifier, target), x, y, lab.eps, steps)

    made: dict[str, Any] = {
        "target, PGD-20 on images": lambda x, y: attacked(target, x, y, lab.eps, steps),
        "restorations, no attack": lambda x, _: purifier(x),
        "restorations of clean images, PGD-20 on them (Eq. 9)": perturbed,
        "restorations of PGD-20 images, PGD-20 on them (Eq. 9)": lambda x, y: perturbed(through(x, y), y),
        "PGD-40 on each mask alone (Eq. 8)":
            lambda x, y: per_mask_restorations(purifier, target, x, y, steps=2 * steps, **how),
    }  # fmt: skip
    rows = []
    for name, images in made.items():
        with seeded(0):
            pieces = zip(data.x.split(64), data.y.split(64), strict=True)
            given = torch.cat([images(x, y) for x, y in pieces])
        rows.append({"attack": name, "correct": answers(target, given, data.y)})
    return {"rows": rows} | lab.stated({"images": len(data.x), "eps": lab.eps, "steps": steps})


def discarding(lab: Lab) -> dict[str, Any]:
    """Figure 2: right answers by the share of pixels set to 0, of PGD-20's images and clean ones."""
    test, rows = lab.test(512), []
    with seeded(0):
        order = torch.rand(test.x[:, :1].shape, device=test.x.device)
    for name in ("classifier", "robust"):
        images = {"clean": test.x, "PGD-20": lab.attacked(lab(name), test, 20)}
        for share in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7):
            found = {k: answers(lab(name), x * (order >= share), test.y) for k, x in images.items()}
            rows.append({"target": name, "share": share, "correct": found})
    return {"rows": rows} | lab.stated({"images": len(test.x)})


def pictures(lab: Lab) -> dict[str, Any]:
    """Figures 4, 5 and 7: restorations as a picture, and how far apart classes are in the target's logits."""
    test, target = lab.test(512), lab("robust")
    columns, apart = {"x": test.x}, {}
    for name in (TARGET, DEFENDED, JPEG):
        inside: nn.Module = lab.defended(name).purifier or nn.Identity()
        x_adv = lab.attacked(nn.Sequential(inside, target), test, 20)
        with torch.no_grad(), seeded(0):
            restored = inside(x_adv)
            logits = target(restored)
        classes = [logits[test.y == c] for c in test.y.unique()]
        means = torch.stack([of_class.mean(0) for of_class in classes])
        within = torch.stack([of_class.var(0, correction=0).sum() for of_class in classes]).mean()
        apart[name] = float(means.var(0).sum() / within.clamp_min(1e-12))
        columns |= {f"x' of {name}": x_adv, f"restored by {name}": restored}
    lab.picture("pictures", plots.image_grid({k: v[:4].clamp(0, 1) for k, v in columns.items()}))
    return {"between over within classes": apart} | lab.stated({"images": len(test.x)})


def targets_training(lab: Lab) -> dict[str, Any]:
    """On training images: L_adv of DIR and of its target alone, slopes of restorations, the share discarded."""
    s, data, told = SCALES[lab.experiment.scale], lab.train(WATCHED), {}
    x, y = data.x[:WATCHED].to(lab.device), data.y[:WATCHED].to(lab.device)
    pairs: dict[str, Any] = {}
    if f"{lab.experiment.data}_dir" in presets.names() and lab.experiment.scale == "small":
        pairs[PRESET] = (lab("DIR"), lab("robust"), {})
    for arm, how in (("frozen", s["settings"]), ("joint", {"alpha": 1.0, "joint": True})):
        pair = lab(f"DIR, {arm}")
        pairs[f"{ARMS[arm]}, seed {lab.seed}"] = (pair["purifier"], pair["target"], how)
    for name, (purifier, target, how) in pairs.items():
        with seeded(1):
            objective = DIRRestoration(purifier, target, eps=lab.eps, **how)
            found = {"L_adv": objective.adversarial_losses(x, y), "slopes": slopes(purifier, x)}
            x_adv = attacked(nn.Sequential(purifier, target), x, y, lab.eps, lab.steps(20))
            told[name] = {**found, "discarded": share_discarded(purifier, x, x_adv), "n": len(x)}
    epochs = {"pretraining_epochs": s["pretraining"].epochs, "epochs": s["restoration"].epochs}
    return {"models": told} | lab.stated({**epochs, "images": len(x), "seeds": [lab.seed]})


def ablation(lab: Lab) -> dict[str, Any]:
    """Section 4.3 and appendix C: each variant under PGD-20."""
    test, rows = lab.test(512), []
    first, second, images = SCALES[lab.experiment.scale]["ablation"]
    for name in VARIANTS:
        pair = lab(f"ablation, {name}")
        rows.append({"variant": name, "seed": lab.seed,
                     "correct": under_pgd(lab, pair["purifier"], pair["target"], test)})  # fmt: skip
    made = {"pretraining_epochs": first, "epochs": second, "train": images, "images": len(test.x), "draws": 5}
    return {"rows": rows, "target": under_pgd(lab, None, lab("robust"), test)} | lab.stated(made)


def under_pgd(lab: Lab, purifier: DIR | None, target: nn.Module, test: Images) -> dict[str, list[bool]]:
    """Answers on clean images and under PGD-20: a draw a step as in the paper, mean logits of draws, masks frozen."""
    defended = nn.Sequential(target) if purifier is None else nn.Sequential(purifier, target)

    def kept(model: nn.Module) -> list[bool]:
        return answers(defended, attacked(model, test.x, test.y, lab.eps, lab.steps(20)), test.y)

    with seeded(1):
        found = {"clean": answers(defended, test.x, test.y), "pgd": kept(defended)}
        if purifier is None:
            return found | {"eot": found["pgd"], "frozen": found["pgd"]}
        found["eot"] = kept(Averaged(defended, 5))
        purifier.set_masks(0)
        found["frozen"] = kept(defended)
    purifier.set_masks(None)
    return found


P = "dir_fashion_mnist_"
CLAIMS = (
    *(
        Claim(says, paper, gap(f"{P}{part}", (DEFENDED, attack), (TARGET, theirs)),
              worst((f"{P}paper", f"{P}strong"), DEFENDED, TARGET))
        for says, paper, part, attack, theirs in (
            ("before an adversarially trained target it keeps more than the target alone under PGD-20 (Table 1)",
             "54.27 against 45.72 %", "paper", "native PGD-20", "native PGD-20"),
            ("and under BPDA + EOT (Table 3)", "52.09 against 45.72 %", "strong", "native PGD-40, bpda",
             "native PGD-40"),
        )
    ),
    Claim("before an adversarially trained target it keeps more than the target alone under PGD-20 (Table 1), "
          "CIFAR-10's preset", "54.27 against 45.72 %",
          of_presets(("cifar10_dir", "pgd20"), ("cifar10_dir", "target_pgd20")),
          worst(CIFAR10_ALL, "DIR", "adversarially trained")),
)  # fmt: skip
ROWS = (Row("DIR, before an adversarially trained network", "Fashion-MNIST", "PGD-20 through it, one draw a step",
            f"{P}paper", "native PGD-20", (f"{P}strong",), DEFENDED, (TARGET,)),)  # fmt: skip


def page(folder: Path) -> list[str]:
    """The sections of the page."""
    results, made = Results(folder, declare("fashion_mnist", "small")), []
    reports, targets = results.reports(("paper", "strong", "frozen")), results.reports(("targets",))
    diagnosed, ablated, trained = map(results.values, ("diagnostics", "ablation", "targets_training"))
    if len(reports) == 3:
        made.append(section(
            "Fashion-MNIST, before an adversarially trained classifier",
            "The target is `fashion_mnist_robust`, Linf eps 0.1; RDP is the preset that was made for "
            "`fashion_mnist_cnn`, another network, and JPEG's gradient a stand-in. PGD, MI and VNI draw the masks once "
            "a step, as the paper has it, and so does Eq. 8; the other columns average over 20 draws where the model "
            "draws. AutoAttack is `standard` on what draws nothing and `rand` on DIR, which is weaker: it has no FAB-T "
            "and no Square. `masks frozen`: attacker and defence share one draw. On the target, which has no purifier "
            "to know, BPDA and Eq. 8 are plain PGD-40. The worst case counts an image as right only if no attack broke "
            f"it, at R = 1 in one redraw, at R = {several.STATED} in any of {several.STATED}.",
            "The preset is small (114,352 weights, patches of 4, 8,000 training images) and was trained with Adam on "
            "Eq. 7 plus ten times the squared error to the clean image: with Eq. 7 alone restorations leave the "
            "images, see the ablations. The paper has SGD and no squared error.",
            compared_table(reports), "Attacks that nobody can make, on the same images. Eq. 8 goes after each "
            "restoration by itself; the losses of the second stage see their mean alone, so that these are no images "
            "any more (notebook 03), and Eq. 8 is weak.",
            means(("diagnostic", "accuracy"), {r["attack"]: r["correct"] for r in diagnosed["rows"]})
            if diagnosed else "",
            unhappy(reports), "What ten draws of the masks say about the final examples (DIR, `strong`):",
            show(*reports["strong"].repeat_table()), about(reports["strong"]),
        ))  # fmt: skip
    if targets and trained:
        made.append(of_targets(targets, trained))
    if ablated:
        rows = [{"variant": TARGET, "correct": ablated["target"]}, *ablated["rows"]]
        left_out = [name for name in VARIANTS if name not in {row["variant"] for row in rows}]
        seconds = {row["variant"]: row["seconds"] for row in ablated["rows"] if "seconds" in row}
        made.append(section(
            "The ablations",
            "In small, one seed: all have ten times the squared error beside Eq. 7 unless they say otherwise. Without "
            "pre-training three epochs are hardly a training, so that row says nothing about the paper's. Every "
            "variant is trained on the same batches, variants of one shape from the same weights. PGD-20 draws the "
            "masks once a step, `+ EOT` averages over draws, differences are to the full method.",
            f"Not measured: {', '.join(left_out)}." if left_out else "",
            ablations(rows, ABLATED, ("clean", "eot"), FULL_METHOD),
            made_by(ablated, training_seconds=seconds),
        ))  # fmt: skip
    return made


def compared_table(reports: Mapping[str, Report]) -> str:
    """The paper's protocol and stronger attacks side by side, and what DIR adds to its target, as Markdown."""
    both = [reports["paper"], reports["strong"]]
    lines = [f"DIR minus the target, {several.POINTS}, paired:", ""]
    for name in ("PGD-20", "PGD-200 + EOT-20", "AutoAttack"):
        ours, theirs = (several.cell(both, m, COLUMNS[name]) for m in (DEFENDED, TARGET))
        if ours is not None and theirs is not None:
            lines.append(f"- {name}: {several.gap(ours.survived, theirs.survived)}")
    counted = [several.counted(both, m) for m in (DEFENDED, TARGET)]
    for repeats in (1, several.STATED):
        kept = common(*(left(cells, repeats) for cells in counted))
        lines.append(f"- worst case, R = {repeats}: {several.gap(*kept)}")
    table = replace(TABLES["Before an adversarially trained target"], pairs=())
    return laid_out(table, reports) + "\n\n" + "\n".join(lines)


def of_targets(reports: Mapping[str, Report], found: Mapping[str, Any]) -> str:
    """DIR before a frozen target and one that is trained with it.

    Args:
        reports: that of `targets`.
        found: values of `targets_training`.
    """
    o, watched = found["options"], {k: v for k, v in found["models"].items() if v}
    left_out = [k for k, titles in OF_TARGETS.items() if not several.cell([*reports.values()], TARGET, titles)]
    below = [k for k, v in watched.items() if v["L_adv"]["pipeline"] < v["L_adv"][TARGET]]
    columns = ("model", "L_adv", "L_adv, its target alone", "slope, seen", "slope, hidden", "discarded")
    cells = {k: (v["L_adv"]["pipeline"], v["L_adv"][TARGET], v["slopes"]["seen"], v["slopes"]["hidden"], v["discarded"])
             for k, v in watched.items()}  # fmt: skip
    return section(
        "Before a frozen target, and before one that is trained with it",
        "The mean of two complementary masks lets the second stage learn the identity: twice what is seen, nothing for "
        "what is hidden. With the squared error of each mask's restoration it does not. `frozen`: Algorithm 1, alpha 1 "
        f"and ten times that error, {o['pretraining_epochs']} + {o['epochs']} epochs. `trained with it`: the released "
        "code's joint training, SGD at 5e-5 and 0.1, alpha 1, no squared error. `trained further`: that target alone, "
        f"SGD at 0.1 for the same {o['epochs']} epochs. One training each.",
        f"On {WATCHED} training images, eps 0.1: the loss of the training attack's examples, through DIR and on the "
        "target alone; slopes of single restorations on the image, 1 and 1 of an inpainter, 2 and 0 of the identity; "
        "and the share of an adversarial perturbation that does not come through.",
        grid(columns, [[k, *(f"{v:.2f}" for v in row)] for k, row in cells.items()]),
        f"L_adv came below that of the target in: {', '.join(below)}." if below else
        "L_adv never came below that of the target alone: not even under the attack that DIR was trained with is a "
        "target better off behind it.",
        f"Not measured: {', '.join(left_out)}. The worst case is that of the attacks shown." if left_out else "",
        laid_out(TABLES["Before a frozen target, and one trained with it"], reports), unhappy(reports),
        about(reports["targets"], found),
    )  # fmt: skip
