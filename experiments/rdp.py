"""RDP (Bai et al., arXiv:2110.07801): transfer attacks, attackers who know the purifier, and the ablation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from art.defences.preprocessor import FeatureSqueezing, JpegCompression, SpatialSmoothing
from torch import nn

from art_ext import plots, presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.defences import ArtPurifier, as_purifier
from art_ext.evaluation import Attack, Probe, Threat, mean_interval
from art_ext.nn import seeded
from art_ext.objectives import RDPObjective, Weights
from art_ext.purifiers import RDP
from experiments.attackers import ADAPTIVE, AUTOATTACK, BLIND, BPDA, FULL, TRANSFER
from experiments.claims import CIFAR10, CIFAR10_ALL, Claim, Row, gap, worst
from experiments.core import Experiment, Item, Model, Part, Table, Work
from experiments.data import SETS
from experiments.lab import Lab, answers
from experiments.networks import Ensemble, Network, Recipe, adam, classifiers, features, shipped
from experiments.page import Results, ablations, about, by_knowledge, grid, laid_out, made_by, section, show, unhappy

SCALES: Mapping[str, dict[str, Any]] = {
    "small": {"images": 1000, "white": 256, "targeted": 512, "epochs": 30, "batch": 64, "clean_share": 0.0, "steps": 5,
              "shape": {"width": 16, "blocks": 4, "block": "residual", "fold": 2}, "ablation": (4, 3000)},
    "paper": {"images": 1000, "white": 512, "targeted": 1000, "epochs": 30, "batch": 48, "clean_share": 0.3,
              "steps": 10, "shape": {"width": 64, "blocks": 23, "block": "rrdb", "fold": 1}, "ablation": (30, None)},
}  # fmt: skip
PAPER, FULL_METHOD = Weights(), "full (Algorithm 1)"
VARIANTS: Mapping[str, tuple[Weights, bool]] = {
    FULL_METHOD: (PAPER, False),
    "no reconstruction branch": (replace(PAPER, reconstruction=0.0), False),
    "shared latent (the prose)": (PAPER, True),
    **{f"no {k} loss": (replace(PAPER, **{k: 0.0}), False) for k in ("feature", "pixel", "latent", "adversarial")},
}
ROBUST, DYNAMIC = "adversarially trained", "dynamic RDP"
CLIP = (0.0, 1.0)
BASELINES: Mapping[str, Callable[[], Any]] = {
    "JPEG (quality 50)": partial(JpegCompression, CLIP, quality=50, channels_first=True),
    "median filter (3x3)": partial(SpatialSmoothing, window_size=3, channels_first=True, clip_values=CLIP),
    "bit depth (2 bits)": partial(FeatureSqueezing, CLIP, bit_depth=2),
}
SOURCES = ("surrogate", "vgg")
"""Networks whose adversaries Table 1 transfers; their ensemble is the third source."""
RADII = (1, 2, 4, 8, 12, 16)
"""Of Figure 4, sixteenths of the largest."""
ITEMS = (
    Item("Table 1", "error under transferred FGSM, MI, DIM, TI-DIM, SI-NI-TI-DIM, three sources", ("blind", "sources")),
    Item("Table 2", "clean accuracy", ("blind",)),
    Item("Table 3", "BPDA through a stand-in for the purifier", ("stand_in",)),
    Item("Table 4", "targeted PGD-10 through the noisy purifier", ("targeted", "white")),
    Item("Figure 1", "the pipeline"),
    Item("Figure 2", "the networks"),
    Item("Figure 3", "spectra of noise and of perturbations", ("spectra",)),
    Item("Figure 4", "success by the radius", ("radii",)),
    Item("Figure 5", "restored images of several attacks", ("pictures",)),
    Item("Figure 6", "restorations and their errors", ("pictures",)),
    Item("Figure 7", "outputs of both branches", ("pictures",)),
    Item("Figure 8", "the ablation", ("ablation",)),
)
DECLARED = ("fashion_mnist", "mnist", "cifar10")


def declare(data: str, scale: str) -> Experiment:
    """The table of settings."""
    d, s = SETS[data], SCALES[scale]
    linf, step, few = Threat("Linf", d.eps), {"step_size": d.eps / 10}, max(1, s["white"] // 8)
    fixed: dict[str, Any] = {"on": "deterministic"}
    drawn: dict[str, Any] = {"on": "randomised"}
    sources = [f"{k} of {source}" for k in ("undefended", "RDP") for source in (*SOURCES, "both")]
    transferred = {
        "FGSM": Attack("native", "FGSM"),
        "MI-FGSM": Attack("native", "MI-FGSM", {"steps": 10}),
        **{name: Attack("native", "SI-NI-TI-DIM", {"steps": 10, "copies": n, "kernel": k}, label=name)
           for name, n, k in (("NI-DIM", 1, 1), ("NI-TI-DIM", 1, 15), ("SI-NI-TI-DIM", 5, 15))},
    }  # fmt: skip
    parts: dict[str, Part | Work] = {
        "blind": Part(("undefended", ROBUST, "RDP", *BASELINES), (
            Attack("native", "PGD", {"steps": 40, **step, "best": False}), transferred["MI-FGSM"],
        ), linf, TRANSFER + BLIND, s["images"]),
        "white": Part(("undefended", ROBUST, "RDP", DYNAMIC), (
            Attack("native", "PGD", {"steps": 40, **step}, **fixed),
            Attack("native", "PGD", {"steps": 100, "loss": "margin", **step}, images=2 * few, **fixed),
            Attack("native", "APGD", {"steps": 100, "loss": "dlr"}, images=2 * few, **fixed),
            Attack("native", "PGD", {"steps": 30, **step}, images=2 * few, **drawn),
            Attack("native", "StAdv", {"steps": 50}, images=2 * few, **fixed),
            # Square early, since BPDA leaves the gradient ones little to follow.
            Attack("autoattack", "standard", {"order": ["apgd-ce", "square", "apgd-t", "fab-t"]}, images=few, **fixed),
            Attack("autoattack", "rand", images=few, **drawn),
        ), linf, BPDA + FULL + ADAPTIVE, s["white"], probe=Probe(64, 20, seeds=3),
           options={"eot_samples": 10, "average": "logits"}),
        "targeted": Part(("undefended", ROBUST, DYNAMIC), (
            Attack("native", "PGD", {"steps": 10, "step_size": d.eps / 8, "best": False, "random_start": False},
                   eot_samples=1, targeted="random", label="targeted PGD-10"),
            Attack("native", "PGD", {"steps": 20, **step}, s["targeted"] // 4, label="PGD-20"),
        ), linf, FULL, s["targeted"], options={"average": "logits"}),
        "sources": Part((*sources, ROBUST), (*transferred.values(),), linf, TRANSFER, s["images"]),
        "stand_in": Part(("undefended of surrogate", "RDP of surrogate", "RDP of a stand-in"),
                         (transferred["SI-NI-TI-DIM"],), linf, TRANSFER, s["images"]),
        "spectra": Work(spectra, ("classifier",)),
        "radii": Work(radii, ("classifier", "surrogate", "RDP")),
        "pictures": Work(pictures, ("classifier", "RDP")),
        "ablation": Work(ablation, ("classifier", "surrogate", "ablation"),
                         file="rdp_ablation" if data == "fashion_mnist" else ""),
    }  # fmt: skip
    under = {f"PGD-40{by}": (f"native PGD-40{by}", "native PGD-40") for by in (", blind", ", bpda", "")}
    columns = under | {"AutoAttack": AUTOATTACK}
    moved = {k: (f"{a.titled(1)}, transfer", a.titled(1)) for k, a in transferred.items()}
    return Experiment("rdp", data, scale, of(data, scale), models(), parts, {
        "Attackers who do not know the purifier": Table(("blind",), {"PGD-40, blind": under["PGD-40, blind"]}),
        "Attackers who know it": Table(("white",), columns, (("white",),)),
        "The paper's Table 4": Table(("targeted",), {k: (k,) for k in ("targeted PGD-10", "PGD-20")}),
        BY_SOURCE: Table(("sources",), moved, (),
                         tuple((f"RDP of {k}", f"undefended of {k}") for k in (*SOURCES, "both"))),
        BY_STAND_IN: Table(("stand_in",), moved),
    })  # fmt: skip


def of(data: str, scale: str) -> dict[str, Network]:
    """RDP, trained or a preset, a second one with other weights, and the ablation's variants."""
    d, s, small = SETS[data], SCALES[scale], scale == "small"
    epochs, images = s["ablation"]

    def trained(recipe: Recipe, **how: Any) -> Network:
        how |= {"eps": d.eps, "steps": s["steps"]}
        return Network(lambda _: RDP(d.channels, **s["shape"]),
                       lambda net, nets: RDPObjective(net, features(nets), **how), recipe)  # fmt: skip

    rdp = trained(Recipe(s["epochs"], adam(1e-3 if small else 1e-4), batch=s["batch"]), clean_share=s["clean_share"])
    return classifiers(data, scale) | {
        "RDP": shipped(f"{data}_rdp", rdp) if small else rdp,
        "stand-in": Network(lambda _: RDP(d.channels, 16, 4, "residual", fold=2), rdp.objective, Recipe(4)),
        **{f"ablation, {name}": trained(Recipe(epochs, images=images), weights=weights, shared_latent=latent)
           for name, (weights, latent) in VARIANTS.items()},
    }  # fmt: skip


def models() -> dict[str, Model]:
    """The rows of the tables."""

    def baseline(make: Callable[[], Any]) -> Model:
        return Model("classifier", lambda _: ArtPurifier(make()), "surrogate")

    sources: dict[str, Any] = {k: k for k in SOURCES} | {"both": lambda nets: Ensemble(nets(k) for k in SOURCES)}
    stand_in = Model("classifier", "RDP", lambda nets: nn.Sequential(nets("stand-in"), nets("surrogate")))
    return {
        "undefended": Model("classifier"), ROBUST: Model("robust", robust=True),
        "RDP": Model("classifier", "RDP", "surrogate"),
        DYNAMIC: Model("classifier", lambda nets: copy.deepcopy(nets("RDP")).set_noise(0.05)),
        **{name: baseline(make) for name, make in BASELINES.items()},
        **{f"RDP of {k}": Model("classifier", "RDP", by) for k, by in sources.items()},
        **{f"undefended of {k}": Model("classifier", lambda _: as_purifier(nn.Identity()), by)
           for k, by in sources.items()},
        "RDP of a stand-in": stand_in,
    }  # fmt: skip


def ablation(lab: Lab) -> dict[str, Any]:
    """Figure 8: each variant on clean images, on those of the classifier's attacker, and on those of a surrogate's."""
    test, classifier, s, rows = lab.test(1000), lab("classifier"), SCALES[lab.experiment.scale], []
    sources = {"blind": "classifier", "transfer": "surrogate"}
    images = {"clean": test.x, **{k: lab.attacked(lab(name), test, 40, 0.1) for k, name in sources.items()}}
    for name in VARIANTS:
        rdp = lab(f"ablation, {name}")
        correct = {k: answers(nn.Sequential(rdp, classifier), x, test.y) for k, x in images.items()}
        with torch.no_grad():
            error = {k: float((rdp(x) - test.x).abs().mean()) for k, x in images.items()}
        rows.append({"variant": name, "seed": lab.seed, "correct": correct, "pixel_error": error})
    undefended = {k: answers(classifier, x, test.y) for k, x in images.items()}
    weights = {name: asdict(w) | {"shared_latent": latent} for name, (w, latent) in VARIANTS.items()}
    made = {"epochs": s["ablation"][0], "train": s["ablation"][1], "images": len(test.x), "seeds": [lab.seed]}
    return {"rows": rows, "undefended": undefended, "weights": weights} | lab.stated(made | s["shape"])


def spectra(lab: Lab) -> dict[str, Any]:
    """Figure 3: mean amplitude by frequency, from low to high in eight bands, of noise and of a perturbation."""
    test = lab.test(256)
    change = lab.attacked(lab("classifier"), test, 40, 0.1) - test.x
    with seeded(0):
        noise = torch.randn_like(test.x) * change.std()
    across = [torch.fft.fftfreq(n).abs() for n in test.x.shape[2:]]
    band = (torch.stack(torch.meshgrid(*across, indexing="ij")).amax(0) * 16).long().clamp_max(7)
    bands = {}
    for name, added in {"noise": noise, "perturbation": change}.items():
        amplitude = torch.fft.fft2(added.cpu()).abs().mean((0, 1))
        bands[name] = [float(amplitude[band == i].mean()) for i in range(8)]
    return {"bands": bands} | lab.stated({"images": len(test.x)})


def radii(lab: Lab) -> dict[str, Any]:
    """Figure 4: right answers by the radius of MI-FGSM on a surrogate."""
    test, steps, rows = lab.test(1000), lab.steps(10), []
    gradient = ascent(cross_entropy(lab("surrogate"), test.y))
    found = {"undefended": lab("classifier"), "RDP": nn.Sequential(lab("RDP"), lab("classifier"))}
    for eps in (lab.eps * r / 16 for r in RADII):
        x_adv = pgd(gradient, test.x, norm=Linf(), eps=eps, steps=steps, step_size=eps / steps, momentum=1.0,
                    random_start=False)  # fmt: skip
        rows.append({"eps": eps, "correct": {k: answers(m, x_adv, test.y) for k, m in found.items()}})
    return {"rows": rows} | lab.stated({"images": len(test.x)})


def pictures(lab: Lab) -> dict[str, Any]:
    """Figures 5 to 7: adversaries, what both branches make of them, and the errors; a picture beside the result."""
    test = lab.test(6)
    x_adv = lab.attacked(lab("classifier"), test, 40, 0.1)
    parts = lab("RDP").disentangle(x_adv)
    columns = {"x": test.x, "x'": x_adv, "P(x')": parts.purified, "R(x')": parts.reconstructed}
    lab.picture("pictures", plots.image_grid(columns, [("x", "x'"), ("x", "P(x')")]))
    errors = {k: float((v - test.x).abs().mean()) for k, v in columns.items() if k != "x"}
    return {"errors": errors} | lab.stated({"images": len(test.x)})


P = "rdp_fashion_mnist_"
CLAIMS = (
    Claim("images of attackers who ignore the purifier are classified right again (Table 1)", "error 61.7 to 14.9 %",
          gap(f"{P}blind", ("RDP", "native PGD-40, blind"), ("undefended", "native PGD-40")),
          worst((f"{P}white",), "RDP", ROBUST)),
    Claim("adversaries crafted on other networks are classified right again (Table 1): NI-DIM, two sources at once",
          "error 16.7 %",
          gap(f"{P}sources", ("RDP of both", "NI-DIM, transfer"), ("undefended of both", "NI-DIM, transfer")),
          worst((f"{P}white",), "RDP", ROBUST)),
    Claim("clean images lose nothing (Table 2), read as less than a point", "97.60 to 97.70 %",
          gap(f"{P}blind", ("RDP", "clean, none"), ("undefended", "clean, none"), -0.01)),
    Claim("BPDA through a purifier of the attacker's costs it little (Table 3), read as at most two points",
          "80.8 to 79.2 %",
          gap(f"{P}stand_in", ("RDP of a stand-in", "SI-NI-TI-DIM, transfer"),
              ("RDP of surrogate", "SI-NI-TI-DIM, transfer"), -0.02),
          worst((f"{P}white",), "RDP", ROBUST)),
    Claim("dynamic, it withstands a white-box attacker better than adversarial training (Table 4)",
          "71.30 against 55.70 %",
          gap(f"{P}targeted", (DYNAMIC, "targeted PGD-10"), (ROBUST, "targeted PGD-10")),
          worst((f"{P}white",), DYNAMIC, ROBUST)),
    Claim("better than NRP, HGD and others (Table 1)", "14.9 against 21.0 % error of NRP",
          "their networks are not here", "their networks are not here"),
    Claim("images of attackers who ignore the purifier are classified right again (Table 1), CIFAR-10's preset, PGD-20",
          "error 61.7 to 14.9 %", gap(CIFAR10, ("RDP", "native PGD-20, blind"), ("undefended", "native PGD-20")),
          worst(CIFAR10_ALL, "RDP", ROBUST)),
    Claim("clean images lose nothing (Table 2), read as less than a point, CIFAR-10's preset", "97.60 to 97.70 %",
          gap(CIFAR10, ("RDP", "clean, none"), ("undefended", "clean, none"), -0.01)),
)  # fmt: skip
ROWS = (Row("RDP", "Fashion-MNIST", "PGD-40 on the bare classifier", f"{P}blind", "native PGD-40, blind",
            (f"{P}white",), "RDP"),)  # fmt: skip
SECTIONS = {
    "blind": ("attackers who do not know the purifier",
              "The paper's kind of attacker, with ART's preprocessing defences in the same run."),
    "white": ("attackers who know it",
              "Deterministic, and with the paper's dynamic inference (Gaussian noise, std 0.05) under EOT. `adaptive` "
              "is SSP, the label-free attack that RDP is trained with, through the purifier. AutoAttack breaks more "
              "under `bpda` than PGD does; Square, one of its attacks, needs no gradient, and may be why."),
    "targeted": ("the paper's Table 4",
                 "Table 4's attacker wants a random other class, takes 10 steps of an eighth of eps from the image "
                 "itself, and sees one draw of the noise (std 0.05). PGD-20 wants any other class, and averages 20 "
                 "draws at each step."),
}  # fmt: skip
BY_SOURCE, BY_STAND_IN = "Transfers by source (the paper's Table 1)", "BPDA through a stand-in (the paper's Table 3)"
TRANSFERRED = {
    BY_SOURCE: "Fashion-MNIST, Linf 0.1, ten steps but for FGSM. Each row's adversaries are crafted on the network it "
               "is of, `both` being their ensemble, and classified by the same classifier, with RDP before it or not. "
               "The adversarially trained network is attacked directly.",
    BY_STAND_IN: "The attacker takes a purifier of his own for RDP, trained by the same rule in four epochs, and "
                 "crafts on it and the surrogate; beside it the surrogate alone. The paper has another method, NRP.",
}  # fmt: skip


def page(folder: Path) -> list[str]:
    """The sections of the page."""
    training, results = (
        presets.describe("fashion_mnist_rdp").training,
        Results(folder, declare("fashion_mnist", "small")),
    )
    stages = f"{len(training['epochs'])} stages of {', '.join(map(str, training['epochs']))} epochs"
    made = [f"RDP is the preset `fashion_mnist_rdp`: {training['images']} images, {stages}, one seed."]
    for name, report in results.reports(SECTIONS).items():
        title, text = SECTIONS[name]
        header, rows = report.table()
        redrawn = report.repeat_table()
        made.append(section(
            f"Fashion-MNIST, {title}", text, f"Under each attack, Linf eps {report.threat['eps']:g}:",
            show(header, [row for row in rows if not row[1].startswith("worst case")]),
            ["What ten redraws say about the final examples:", show(*redrawn)] if redrawn[1] else "",
            "Worst case: right under every attack in the ball of such a knowledge, over the images that all of them "
            "saw. StAdv has a bound of its own and does not count. An adversarially trained network has no purifier "
            "to know: it is attacked directly.",
            by_knowledge(report), unhappy({name: report}),
            "Not tested:\n\n" + "\n".join(f"- {what}" for what in report.not_tested), about(report),
        ))  # fmt: skip
    for title, text in TRANSFERRED.items():
        table = results.experiment.tables[title]
        for name, report in results.reports(table.parts).items():
            made.append(section(title, text, laid_out(table, {name: report}), unhappy({name: report}), about(report)))
    if found := results.values("ablation"):
        o, seeds = found["options"], len(found["options"]["seeds"])
        columns = {"clean": "clean", "blind": "blind PGD-40", "transfer": "transfer PGD-40"}
        made.append(section(
            "The ablation (the paper's Figure 8)",
            f"Every variant from the same weights on the same batches, in small ({o['train']} training images, "
            f"{o['epochs']} epochs), Linf eps 0.1; {'one seed' if seeds == 1 else f'mean over {seeds} seeds'}, n "
            "counts images. Under Algorithm 1 the reconstruction loss never reaches the purifier: without that branch "
            "nothing changes.",
            ablations(found["rows"], columns, ("blind", "transfer"), FULL_METHOD), made_by(found),
        ))  # fmt: skip
    if found := results.values("spectra"):
        rows = [[k, *(f"{v:.2f}" for v in bands)] for k, bands in found["bands"].items()]
        made.append(section(
            "Spectra (the paper's Figure 3)", "Mean amplitude of the perturbations of PGD-40 on the classifier, and of "
            "Gaussian noise with their standard deviation, in eight bands of frequency from low to high.",
            grid(["", *map(str, range(1, 9))], rows), made_by(found),
        ))  # fmt: skip
    if found := results.values("radii"):
        rows = [[f"{r['eps']:.5g}", *(str(mean_interval(v)) for v in r["correct"].values())] for r in found["rows"]]
        made.append(section(
            "Right answers by the radius (the paper's Figure 4)",
            "MI-FGSM on the surrogate, ten steps of a tenth of eps without a random start: another "
            "one than the MI-FGSM of the tables above, whose step is a quarter of eps, from a random start.",
            grid(["eps", *found["rows"][0]["correct"]], rows), made_by(found),
        ))  # fmt: skip
    if found := results.values("pictures"):
        rows = [[k, f"{v:.3f}"] for k, v in found["errors"].items()]
        made.append(section(
            "Pictures (the paper's Figures 5 to 7)", "Images, adversaries of PGD-40 on the classifier, what both "
            "branches make of them, and the errors.",
            results.picture("pictures", "images, adversaries, both branches, errors"),
            grid(["image", "mean distance from the clean one"], rows), made_by(found),
        ))  # fmt: skip
    return made
