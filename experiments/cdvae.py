"""CD-VAE (Yang et al., NeurIPS 2021): where perturbations go, G(x) as a defence, the white-box game, detection."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext import plots
from art_ext.classifiers import ClassifierObjective, SmallCNN, WideResNet
from art_ext.data import Images
from art_ext.detectors import Mahalanobis, Residual, on_residuals, threshold_at
from art_ext.evaluation import Attack, Interval, Probe, Report, Threat, detection, mean_interval
from art_ext.evaluation.report import several
from art_ext.evaluation.report.worst import left
from art_ext.objectives import CDVAEGame, CDVAETraining
from art_ext.objectives.cdvae import Curriculum
from art_ext.purifiers import CDVAE, cdvae
from experiments import detection_page
from experiments.attackers import ADAPTIVE, AUTOATTACK, FULL, TRANSFER, autoattack, native
from experiments.claims import CIFAR10_ALL, Claim, Row, caught, detected, gap, of_presets, reaches, worst
from experiments.core import Experiment, Item, Model, Part, Table, Work
from experiments.data import SETS, called
from experiments.lab import TRIAL_IMAGES, Lab
from experiments.networks import Nets, Network, Recipe, classifiers, falling, features, own, sgd, trained
from experiments.page import Results, about, code, grid, laid_out, options, read, section, unhappy

DEFENCE, UNDERSTANDING = 2e-3, 2.0
"""The paper's gamma to defend CIFAR-10, and to look at it; the released game starts from the second."""
GAMMAS = (2e-4, DEFENCE, 2e-2, 2e-1, UNDERSTANDING)
SCALES: Mapping[str, dict[str, Any]] = {
    "small": {"grey": 512, "white": 256, "sampled": 64, "unseen": 64, "steps": 7, "mixup": 0.0,
              "shape": {"width": 16, "latent": 128, "classifier_width": 16}, "classifier": Recipe(15, images=8000),
              "cdvae": Recipe(15, images=8000), "game": Recipe(10, images=8000), "detection": Recipe(30, images=8000),
              "detected": {"images": 512, "threshold": 1000, "attacked": 64, "resamples": 1000}},
    "paper": {"grey": 1000, "white": 512, "sampled": 512, "unseen": 512, "steps": 10, "mixup": 2.0,
              "shape": {"width": 32, "classes": 0},
              "classifier": Recipe(100, sgd(0.1, 5e-4), falling(0.5, 0.75), batch=128),
              "cdvae": Recipe(300, own, falling(0.5, 0.75), batch=256, more=lambda o: [Curriculum(o)]),
              "game": Recipe(150, own, falling(0.5, 0.75), batch=128),
              "detection": Recipe(300, own, falling(0.5, 0.75), batch=256),
              "detected": {"images": 1000, "threshold": 1000, "attacked": 512, "resamples": 1000}},
}  # fmt: skip
UNDEFENDED, ROBUST, GREY, GAME = "undefended", "adversarially trained", "CD-VAE", "CD-VAE, game"
RELEASED, SAMPLED = "CD-VAE, released game", "CD-VAE, released game, z sampled"
GAMES, WHITE = (GAME, RELEASED), (UNDEFENDED, ROBUST, GREY, GAME, RELEASED)
STRONG = native("PGD-200") | {"AutoAttack": AUTOATTACK}
TABLE_6 = {
    f"{name}, grey-box": (f"native {title}, transfer", f"native {title}")
    for name, title in (("PGD-100", "PGD-100"), ("C&W-100", "PGD-100 margin"), ("StAdv-100", "StAdv-100 0.05"))
} | STRONG
UNSEEN = {
    "JPEG-100": ("native JPEG-100 0.125",), "JPEG-100 at 0.5": ("native JPEG-100 0.5",),
    "ReColor-100": ("native ReColorAdv-100 0.06",), "StAdv-100": ("native StAdv-100 0.05",),
}  # fmt: skip
TABLE_7 = STRONG | UNSEEN
THREE, GENERATOR, LINF = (UNDEFENDED, ROBUST, GREY), f"cdvae {UNDERSTANDING:g}", ("white", "jpeg", "sampled")
MODELS: Mapping[str, Model] = {
    UNDEFENDED: Model("classifier"), ROBUST: Model("robust", None, "classifier", robust=True),
    GREY: Model(f"classifier of G(x), {DEFENCE:g}", f"cdvae {DEFENCE:g}/purifier", "classifier"),
    **{game: Model(f"{game}/classifier", f"{game}/purifier", "classifier") for game in GAMES},
    SAMPLED: Model(f"{RELEASED}/classifier",
                   lambda nets: copy.deepcopy(nets(f"{RELEASED}/purifier")).set_sampling(True), "classifier"),
}  # fmt: skip
"""A classifier of x is what the attackers of Table 6 know."""
PAIRS = tuple((game, ROBUST) for game in GAMES)
TABLES = {
    **{f"{norm}, grey-box and full": Table(parts, TABLE_6, (parts[::-1],), ((GREY, UNDEFENDED),), models=THREE)
       for norm, parts in (("Linf", ("grey", "white")), ("L2", ("grey_l2", "white_l2")))},
    "White box, Linf": Table(LINF, TABLE_7, tuple((part,) for part in LINF), PAIRS),
    "White box, L2": Table(("white_l2",), TABLE_7, (("white_l2",),), PAIRS),
}  # fmt: skip
"""Tables 6 and 7."""
MEAN, LOWEST = "unseen mean, on the images of all its columns", "lowest column"
LAYERS = {
    "SmallCNN": ("features.2", "features.5", "features.9", "features.12", "head.3"),
    "ResidualClassifier": ("stages.0", "stages.1", "stages.2", "stages.3"),
    **dict.fromkeys(("ResNet18", "PreActResNet"), ("stem", "stages.0", "stages.1", "stages.2", "stages.3")),
    "WideResNet": ("stem", "stages.0", "stages.1", "stages.2"),
}
SYSTEMS = {"x": ("x", "x"), "R(x)": ("R(x)", "R(x)"), "classifier on x, detector on R(x)": ("x", "R(x)")}
"""Whose answer counts, and what the detector sees; the paper has the first two."""
ITEMS = (
    Item("Table 1", "similarity of G and R of images and adversaries, FID", ("analysis",)),
    Item("Table 2", "norms of the parts of a perturbation", ("analysis",)),
    Item("Table 3", "trained on one part, tested on another", ("analysis",)),
    Item("Table 4", "detection on x and on R(x)", ("detection",)),
    Item("Table 5", "the same on restricted ImageNet, for which CIFAR-10 stands in", ("detection",), ("cifar10",)),
    Item("Table 6", "grey-box defence", ("grey", "grey_l2")),
    Item("Table 7", "white-box defence, seen and unseen attacks", ("white", "white_l2", "jpeg", "sampled")),
    Item("Figure 1", "the networks"),
    Item("Figure 2", "images taken apart", ("analysis",)),
    Item("Figure 3", "correlation of latents", ("analysis",)),
    Item("Figure 4", "what gamma trades", ("gamma",)),
    Item("Figure 5", "what gamma does to the patterns", ("gamma",)),
)
DECLARED = ("fashion_mnist", "mnist", "cifar10")


def declare(data: str, scale: str) -> Experiment:
    """The table of settings."""
    d, s = SETS[data], SCALES[scale]
    linf, l2 = Threat("Linf", d.eps), Threat("L2", d.eps_l2)

    def blind(eps: float) -> list[Attack]:
        steps = {"steps": 100, "step_size": eps / 10, "best": False}
        return [Attack("native", "PGD", {**steps, **loss}, knowledge=TRANSFER) for loss in ({}, {"loss": "margin"})]

    def bounded(name: str, images: int, known: Any = FULL, **more: Any) -> Attack:
        return Attack("native", name, {"steps": 100, **more}, images=images, knowledge=known)

    full = [
        Attack("native", "PGD", {"steps": 200}, knowledge=FULL),
        Attack("native", "PGD", {"steps": 100}, knowledge=ADAPTIVE, label="PGD-100, own gradients"),
        *autoattack(),
    ]
    coloured = ("JPEG", "ReColorAdv", "StAdv") if d.channels == 3 else ("JPEG", "StAdv")
    unseen, probe, known = s["unseen"], Probe(32, 20, seeds=3), FULL + ADAPTIVE
    few = tuple(bounded(k, s["sampled"]) for k in coloured)
    parts: dict[str, Part | Work] = {
        "grey": Part(THREE, (*blind(d.eps), bounded("StAdv", s["grey"] // 4, TRANSFER)), linf, TRANSFER, s["grey"]),
        "grey_l2": Part(THREE, (*blind(d.eps_l2),), l2, TRANSFER, s["grey"]),
        "white": Part(WHITE, (*full, *(bounded(k, unseen) for k in coloured)), linf, known, s["white"], probe=probe),
        "white_l2": Part(WHITE, (*full,), l2, known, s["white"], probe=probe),
        "jpeg": Part(WHITE, (bounded("JPEG", unseen, eps=0.5),), linf, FULL, s["white"]),
        "sampled": Part((UNDEFENDED, SAMPLED), (*full, *few), linf, known, s["sampled"], probe=probe),
        "analysis": Work(analysis, ("classifier", "cdvae 2", "vgg")), "gamma": Work(gamma, ("classifier", "cdvae")),
        "detection": Work(detection_work, ("classifier", "cdvae"), file=f"detection_{data}"),
    }  # fmt: skip
    return Experiment("cdvae", data, scale, of(data, scale), MODELS, parts, TABLES)


def of(data: str, scale: str) -> dict[str, Network]:
    """Classifiers; CD-VAEs on clean images by gamma with classifiers of their parts; and both games."""
    d, s, small = SETS[data], SCALES[scale], scale == "small"
    found = classifiers(data, scale, wide=True)
    wide: dict[str, Any] = {"std": d.std}

    def classifier() -> nn.Module:
        return SmallCNN(d.channels, 10, 16) if small else WideResNet(d.channels, 10, **wide, mean=d.mean)

    def make(_: Nets) -> nn.Module:
        held: dict[str, Any] = {"purifier": CDVAE(d.channels, d.size, **s["shape"], **d.moments)}
        # Residuals have no mean to subtract.
        return nn.ModuleDict(held if small else held | {"residual": WideResNet(d.channels, 10, **wide, dropout=0.3)})

    def part_classifier(of: str, part: Callable[[Any], Any]) -> Network:
        return Network(lambda _: classifier(), lambda net, nets: ClassifierObjective(net, purifier=part(nets(of))),
                       s["classifier"])  # fmt: skip

    def clean(value: float, recipe: Recipe) -> Network:
        return Network(make, lambda net, _: CDVAETraining(net["purifier"], residual(net) if not small else None,
                                                          gamma=value, mixup=s["mixup"]), recipe)  # fmt: skip

    def game(variant: str) -> Network:
        how = {"variant": variant, "eps": d.eps, "steps": s["steps"]}
        return Network(
            lambda nets: copy.deepcopy(nn.ModuleDict({**nets(GENERATOR), "classifier": nets("classifier")})),
            lambda net, _: CDVAEGame(net["purifier"], net["classifier"], None if small else residual(net), **how),
            s["game"],
        )

    for value in GAMMAS:
        found[f"cdvae {value:g}"] = clean(value, s["cdvae"])
        found[f"classifier of G(x), {value:g}"] = part_classifier(f"cdvae {value:g}/purifier", lambda g: g)
    return found | {
        "cdvae for detection": clean(UNDERSTANDING, s["detection"]),
        "classifier of R(x)": part_classifier(f"{GENERATOR}/purifier", Residual),
        "classifier of x": trained(classifier, s["classifier"]),
        GAME: game("paper"), RELEASED: game("released"),
    }  # fmt: skip


def residual(net: Any) -> Any:
    """The classifier of residuals of a CD-VAE's networks."""
    return net["residual"] if "residual" in net else net["purifier"].residual_classifier


def analysis(lab: Lab) -> dict[str, Any]:
    """Means and deviations of Tables 1 and 2, correlations of Fig. 3, accuracies of Table 3; Fig. 2 as a picture."""
    data, purifier = lab.test(SCALES[lab.experiment.scale]["grey"]), lab(f"{GENERATOR}/purifier")
    found = cdvae.decompose(purifier, data.x, lab.attacked(lab("classifier"), data, 100, 0.1))
    lab.picture("analysis", plots.decompositions({k: v[:6] for k, v in found.items()}))
    norms = {part: {k: _spread(v) for k, v in sizes.items()} for part, sizes in cdvae.part_norms(found).items()}
    similarity = {part: _spread(cdvae.cosine(found[f"{part}(x)"], found[f"{part}(x')"])) for part in ("G", "R")}
    vgg = features(lab)
    with torch.no_grad():
        pooled = {k: vgg(v).mean((2, 3)) for k, v in found.items()}
    pairs = {part: (pooled[f"{part}(x)"], pooled[f"{part}(x')"]) for part in ("G", "R")}
    distance = {part: [cdvae.frechet_distance(*pair), float(pair[0].var(0).sum())] for part, pair in pairs.items()}
    correlation = cdvae.latent_correlation(*(purifier.latents(found[k]) for k in ("x", "x'")))
    names = {"x": "classifier of x", "G(x)": f"classifier of G(x), {UNDERSTANDING:g}", "R(x)": "classifier of R(x)"}
    tested = {"x": found["x"], "G(x)": found["G(x)"].clamp(0, 1), "R(x)": found["R(x)"]}  # as each was trained on them
    learned = {k: lab(name) for k, name in names.items()}
    crossed = {f"top-{n}": cdvae.cross_classification(learned, tested, data.y, top=n) for n in (1, 5)}
    made = {"norms": norms, "cosine": similarity, "frechet": distance, "correlation": correlation.tolist()}
    return made | crossed | lab.stated(_settings(lab, len(data.x)))


def gamma(lab: Lab) -> dict[str, Any]:
    """Fig. 4: accuracies for each gamma, against PGD-100 on a classifier of x; as a picture too.

    Detection is by Mahalanobis distance in the features of R(x), at 5 % false alarms on other test images; the paper
    does not say what its own is.
    """
    n = SCALES[lab.experiment.scale]["grey"]
    data, spare, train = lab.test(n), lab.test(None if lab.experiment.scale == "small" else n, n).x, lab.train(8000)
    made = {}
    for value in GAMMAS:
        net = lab(f"cdvae {value:g}")
        made[value] = copy.copy(net["purifier"])
        made[value].residual_classifier = residual(net)
    x_adv = lab.attacked(lab("classifier"), data, 100, 0.1)

    def measured(purifier: CDVAE) -> float:
        """Mean of the shares of clean images that pass and of attacked ones that are flagged."""
        inside: Any = purifier.residual_classifier
        detector = Mahalanobis(on_residuals(purifier, inside), [f"1.{k}" for k in LAYERS[type(inside).__name__]])
        detector.fit(train.x.to(lab.device), train.y.to(lab.device))
        with torch.no_grad():
            unseen, clean, attacked = (detector.scores(v) for v in (spare, data.x, x_adv))
        threshold = threshold_at(unseen, detection.FALSE_POSITIVES)
        return float((clean <= threshold).double().mean() + (attacked > threshold).double().mean()) / 2

    of_parts = {g: lab(f"classifier of G(x), {g:g}") for g in GAMMAS}
    rows = cdvae.trade_off(made, data.x, data.y, x_adv=x_adv, detection=measured, classifiers=of_parts)
    lab.picture("gamma", plots.trade_off_curve(rows))
    return {"rows": rows} | lab.stated(_settings(lab, len(data.x)))


def detection_work(lab: Lab) -> dict[str, Any]:
    """Tables 4 and 5: detectors on x and on R(x), and attackers who know them."""
    d, s, steps = SETS[lab.experiment.data], SCALES[lab.experiment.scale]["detected"], lab.steps(50)
    n, more = (TRIAL_IMAGES * 3, TRIAL_IMAGES) if lab.dry else (s["images"], s["threshold"])
    eps, held = {"Linf": d.eps, "L2": d.eps_l2}, lab.images("test", n + more)
    x, y, spare = held.x[:n], held.y[:n], held.x[n:]
    fitted_on = lab.images("train", 200 if lab.dry else 8000)  # some of each class
    net, classifier = lab("cdvae for detection"), lab("classifier")
    layers, inside = LAYERS[type(classifier).__name__], [f"1.{k}" for k in LAYERS[type(residual(net)).__name__]]
    spaces = {"x": detection.Space(classifier, layers, layers[-1]),
              "R(x)": detection.Space(on_residuals(net["purifier"], residual(net)), inside, inside[-1])}  # fmt: skip
    for space in spaces.values():
        space.sets = detection.image_sets(space, x, y, eps)
    fitted = {name: detection.detectors(space, fitted_on.x, fitted_on.y) for name, space in spaces.items()}
    calibration, noises = max(8, n // 10), detection.NOISES[::6] if lab.dry else detection.NOISES
    tried = slice(calibration, calibration + s["attacked"])
    pool, rows, known = Images(fitted_on.x[:1000], fitted_on.y[:1000]), [], []
    for kind in fitted["x"]:
        of_kind = {name: fitted[name][kind] for name in spaces}
        rows += detection.cells(kind, spaces, of_kind, y, calibration, noises, 20 if lab.dry else s["resamples"])
        for system, (answers, seen) in SYSTEMS.items():
            detector, sets = of_kind[seen], spaces[seen].sets
            if kind != "KD":  # without a step of the input, which would only cost the attacker time
                if isinstance(detector, Mahalanobis):
                    detector.set_noise(0.0)
                detector.calibrate(sets["clean"][:calibration], sets["PGD-Linf"][:calibration])
            found = detection.adaptive(
                spaces[answers].network, detector, x[tried], y[tried], spare, pool, d.eps, steps=steps
            )
            known.append({"detector": kind, "system": system, **found})
    right = {name: detection.right(s.network, {"clean": x}, y)["clean"].tolist() for name, s in spaces.items()}
    made = {"rows": rows, "adaptive": known, "correct": right, "eps": eps, "calibration": calibration}
    told = {"gamma": UNDERSTANDING, "steps": steps, **s}
    return made | {"data": called(lab.experiment.data, lab.folder)["name"]} | lab.stated(told)


def _settings(lab: Lab, images: int) -> dict[str, Any]:
    s = SCALES[lab.experiment.scale]
    epochs = {"epochs": s["cdvae"].epochs, "game_epochs": s["game"].epochs, "train": s["cdvae"].images}
    return {"images": images, "steps": s["steps"], "gammas": list(GAMMAS), **epochs}


def _spread(values: Tensor) -> list[float]:
    return [float(values.mean()), float(values.std(correction=0))]


def _top_1(trained: str, tested: str) -> Any:
    return lambda found: (found["top-1"][trained][tested], found["options"]["images"])


P = "cdvae_fashion_mnist_"
CLAIMS = (
    Claim("G(x) defends against attacks on a classifier of x (Table 6)", "77.05 % of 86.81 %",
          gap(f"{P}grey", (GREY, "native PGD-100, transfer"), (UNDEFENDED, "native PGD-100")),
          worst((f"{P}white",), GREY, ROBUST)),
    Claim("G(x) defends against attacks on a classifier of x (Table 6), CIFAR-10's preset, PGD-20",
          "77.05 % of 86.81 %", of_presets(("cifar10_cdvae", "pgd20_grey"), ("cifar10_cdvae", "bare_pgd20_grey")),
          worst(CIFAR10_ALL, "CD-VAE", ROBUST)),
    Claim("trained in the released game it keeps more of unseen attacks than adversarial training, here in L2 "
          "(Table 7)", "43.1 against 19.2 % in L2 1",
          gap(f"{P}white_l2", (RELEASED, "native PGD-200"), (ROBUST, "native PGD-200")),
          worst((f"{P}white_l2",), RELEASED, ROBUST)),
    *(Claim(f"a classifier of {x} recognises {of_x} (Table 3)", f"{100 * paper:.2f} %",
            reaches(f"{P}analysis", _top_1(x, of_x), paper))
      for x, of_x, paper in (("x", "R(x)", 0.9268), ("R(x)", "x", 0.962))),
    *(
        Claim(f"{kind} detects attacks on R(x) better than on x (Table 4), {SETS[data].title}", numbers,
              detected(f"detection_{data}", kind), caught(f"detection_{data}", kind))
        for kind, numbers in (("MD", "AUC 99.4 to 99.8 against 95.3 to 98.7 %"), ("LID", "above"), ("KD", "above"))
        for data in ("fashion_mnist", "cifar10")
    ),
)  # fmt: skip
ROWS = (
    Row("CD-VAE, G(x) classified", "Fashion-MNIST", "PGD-100 on a classifier of x", f"{P}grey",
        "native PGD-100, transfer", (f"{P}white",), GREY),
    *(Row(f"CD-VAE, trained in the {title}", "Fashion-MNIST", "PGD-200 through it", f"{P}{part}", "native PGD-200", (),
          name) for name, title in ((RELEASED, "released game"), (GAME, "paper's game"))
      for part in ("white", "white_l2")),
)  # fmt: skip


def page(folder: Path) -> list[str]:
    """The sections of the page."""
    results = Results(folder, declare("fashion_mnist", "small"))
    reports, others = results.reports(), {k: results.values(k) for k in ("analysis", "gamma")}
    made = [section(
        "Fashion-MNIST",
        f"G is trained with gamma {DEFENCE:g}, the paper's for its defence, and its classifier on G(x). Grey-box "
        "attackers see a classifier of x (`fashion_mnist_cnn`) and nothing of CD-VAE, as in the paper's Table 6; "
        "networks without a purifier are attacked directly, in every column. What is called C&W there is PGD on "
        "the margin. Linf eps 0.1, L2 eps 1.5. JPEG has the paper's bound of 0.125 where no other is given.",
        tables(reports), unhappy(reports), findings(*others.values()), "\n".join(results.picture(k, k) for k in others),
        results.missing([k for k in results.experiment.parts if k != "detection"]),
        code({k: options(v) for k, v in others.items()}),
        [f"`{k}`: {about(r)}" for k, r in reports.items()],
    )] if reports and all(others.values()) else []  # fmt: skip
    titles = {"fashion_mnist": SETS["fashion_mnist"].title,
              "cifar10": "CIFAR-10 (JPEG-75 training images, the first exact test images)"}  # fmt: skip
    found = {title: read(folder, f"detection_{data}") for data, title in titles.items()}
    return made + [detection_page.page(values, title) for title, values in found.items() if values]


def tables(reports: Mapping[str, Report]) -> list[str]:
    """Table 6 beside full gradients, the same in L2, Table 7 with the mean of what was unseen, as far as measured."""
    weak, lines = too_weak(reports["white"]) if "white" in reports else {}, []
    told = {
        "White box, Linf": [
            f"Does not even break the undefended model, so that its column says nothing of a defence: {k} ({share})."
            for k, share in weak.items()
        ],
        "White box, L2": [
            "The last columns of Table 7. Linf and L2: right under both PGD and AutoAttack. Unseen: L2, StAdv and the "
            "like, and Linf too for models trained on clean images; the mean leaves out what does not break the "
            "undefended model, and is over the first images, which all of its columns saw. The lowest column is "
            "picked after the fact, so that it is no estimate of a worst case.",
            unseen_table([reports[k] for k in LINF if k in reports], reports["white_l2"], weak),
        ] if {"white", "white_l2"} <= reports.keys() else [],
    }  # fmt: skip
    for title, table in TABLES.items():
        if table.parts[0] in reports:
            lines += [f"{title}:", laid_out(table, reports), *told.get(title, ())]
    return lines


def too_weak(report: Report) -> dict[str, Interval]:
    """The attacks of Table 7 which leave the undefended model more than half, and how much, if any do."""
    cells = {k: several.cell([report], UNDEFENDED, titles) for k, titles in TABLE_7.items()}
    return {k: c.accuracy for k, c in cells.items() if c is not None and c.accuracy.low > 0.5}


def unseen_table(linf: Sequence[Report], l2: Report, without: Collection[str] = ()) -> str:
    """The last column of Table 7: the mean over what a model was not trained against, and the lowest of all columns.

    Linf and L2 are worst cases per image over PGD and AutoAttack, as far as they were run, at R = 1. A model that was
    trained on clean images has not seen Linf either. The mean is over the first images, which all of its columns saw.

    Args:
        linf: those of Linf and of what has a bound of its own; the first has all models.
        l2: that of L2.
        without: columns that are left out.
    """
    names = linf[0].models()
    ran = [k for k in UNSEEN if k not in without and any(several.cell(linf, m, TABLE_7[k]) for m in names)]
    rows = []
    for model in names:
        found = {"Linf": _strong(linf[0], model), "L2": _strong(l2, model)}
        found |= {k: c.survived for k in ran if (c := several.cell(linf, model, TABLE_7[k])) is not None}
        found = {k: values for k, values in found.items() if values}
        rows.append({"model": model, **{k: str(mean_interval(values)) for k, values in found.items()}})
        if found:
            lowest = min(found, key=lambda k: mean_interval(found[k]).mean)
            rows[-1][LOWEST] = f"{lowest}: {mean_interval(found[lowest])}"
        unseen = ["L2", *ran] if model not in (UNDEFENDED, GREY) else ["Linf", "L2", *ran]
        if found.keys() >= {*unseen}:
            images = zip(*(found[k] for k in unseen), strict=False)
            rows[-1][MEAN] = str(mean_interval([sum(image) / len(image) for image in images]))
    return several.grid(["model", "Linf", "L2", *ran, MEAN, LOWEST], rows)


def _strong(report: Report, model: str) -> list[float]:
    """Per image, the share of redraws in which neither PGD nor AutoAttack broke it, over the images that all saw."""
    titles = [title for column in STRONG.values() for title in column]
    return left([c for c in report.attacked(model) if several.title(c) in titles])


def findings(analysed: Mapping[str, Any], traded: Mapping[str, Any]) -> list[str]:
    """Tables 1 to 3 and Figure 4."""
    o, rows, n = analysed["options"], traded["rows"], traded["options"]["images"]
    names = [k for k in rows[0] if k != "gamma"]

    def entry(name: str, value: float) -> str:
        return f"{value:.1%}" if name.startswith("reconstruction") else str(several.of_share(value, n))

    return [
        f"Trained with Adam on {o['train']} images: every CD-VAE and every classifier {o['epochs']} epochs, the games "
        f"{o['game_epochs']} with {o['steps']} steps of their attack, one seed. The preset `fashion_mnist_cdvae` is "
        "another network, trained longer.",
        f"Where perturbations go and which part tells the class (gamma {UNDERSTANDING:g}, the paper's Tables 1 to 3; "
        "the Frechet distance is of features of `fashion_mnist_vgg`, beside the total variance of those of clean "
        "images; the paper's is of an Inception network's), and what gamma trades (Figure 4): `classification` is of "
        "R(x) by its own classifier, `reconstruction` is 1 - |x - G(x)| / |x|, `clean` and `defence` are of a "
        "classifier of G(x), `defence` under PGD-100 on a classifier of x (Linf eps 0.1), `detection` is of a "
        "Mahalanobis detector on R(x) at 5 % false alarms: the mean of the shares of clean images let pass and of "
        "attacked ones flagged, so that 50 % is chance; only this mean was kept, and its interval is the widest that "
        "it can have.",
        *analysis_table(analysed),
        grid(["gamma", *names], [[f"{row['gamma']:g}", *(entry(k, row[k]) for k in names)] for row in rows]),
    ]  # fmt: skip


def analysis_table(found: Mapping[str, Any]) -> list[str]:
    """Norms of the parts of a perturbation, similarities of the parts of an image, Table 3."""
    norms = [[part, *(f"{m:.3g} ± {s:.2g}" for m, s in sizes.values())] for part, sizes in found["norms"].items()]
    ordered = sorted(found["correlation"])
    middle, tenth = ordered[len(ordered) // 2], ordered[len(ordered) // 10]
    n, names = found["options"]["images"], ("x", "G(x)", "R(x)")
    crossed = [[k, *(str(several.of_share(row[v], n)) for v in names)] for k, row in found["top-1"].items()]
    told = [f"Cosine similarity of {k}(x) and {k}(x'): {m:.4f} ± {d:.4f}" for k, (m, d) in found["cosine"].items()]
    told += [f"Frechet distance of {k}(x) and {k}(x'): {m:.3g}, total variance {d:.3g}"
             for k, (m, d) in found["frechet"].items()]  # fmt: skip
    return [
        grid(["part", "L1", "L2", "Linf"], norms), *told,
        f"Correlation of z and z': median {middle:.3f}, tenth percentile {tenth:.3f}",
        grid(["trained on", *names], crossed),
    ]  # fmt: skip
