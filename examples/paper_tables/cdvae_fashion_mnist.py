"""CD-VAE on Fashion-MNIST: Tables 1 to 3, 6 and 7 and Figures 2 to 4 in small, and what full gradients leave.

    python examples/paper_tables/cdvae_fashion_mnist.py --train-only        # the networks
    python examples/paper_tables/cdvae_fashion_mnist.py --shard 0 2 &       # the tables in two halves ...
    python examples/paper_tables/cdvae_fashion_mnist.py --shard 1 2; wait
    python examples/paper_tables/cdvae_fashion_mnist.py --merge 2           # ... and one result of both
    python examples/paper_tables/cdvae_fashion_mnist.py --images 4 --quick --epochs 1 --game-epochs 1 --train 8

`grey`, `grey_l2`: Table 6, whose attacks see a classifier of x and nothing of CD-VAE. `white`, `white_l2`: Table 7,
with exact gradients through both, the purifier's own attacks and the checks, for that model too; without ReColor, which
needs colour. `jpeg`: JPEG at a wider bound than the paper's. `sampled`: `white` in Linf for a model that draws z, on
fewer images. `analysis`: where perturbations go (Tables 1 and 2, Fig. 3), which part tells the class (Table 3), and
pictures (Fig. 2). `gamma`: Fig. 4. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from typing import Any

import ablations
import parts
import torch
from cdvae_tables import findings_table, table
from torch import Tensor, nn

from art_ext import plots, presets
from art_ext.attacks import Linf, ascent, cross_entropy, pgd
from art_ext.classifiers import ClassifierObjective, SmallCNN
from art_ext.data import fashion_mnist
from art_ext.detectors import Mahalanobis, Residual, on_residuals, threshold_at
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat
from art_ext.files import replacing
from art_ext.nn import FeatureExtractor, seeded
from art_ext.objectives import CDVAEGame, CDVAETraining
from art_ext.purifiers import CDVAE
from art_ext.purifiers.cdvae import (
    cosine,
    cross_classification,
    decompose,
    frechet_distance,
    latent_correlation,
    part_norms,
    trade_off,
)

PREFIX = "cdvae_fashion_mnist"
EPS, EPS_L2, WIDE_JPEG = 0.1, 1.5, 0.5
SHAPE: dict[str, Any] = {
    "channels": 1, "size": 28, "width": 16, "latent": 128, "classifier_width": 16, "mean": [0.286], "std": [0.353]
}  # fmt: skip
DEFENCE, UNDERSTANDING = 2e-3, 2.0
"""The paper's gamma to defend CIFAR-10, and to look at it; the released game starts from the second."""
GAMMAS = (2e-4, DEFENCE, 2e-2, 2e-1, UNDERSTANDING)
UNDEFENDED, ROBUST, GREY, GAME = "undefended", "adversarially trained", "CD-VAE", "CD-VAE, game"
RELEASED, SAMPLED = "CD-VAE, released game", "CD-VAE, released game, z sampled"
VARIANTS = {GAME: "paper", RELEASED: "released", SAMPLED: "released"}
TRANSFER, FULL, OWN = (Knowledge.TRANSFER,), (Knowledge.FULL,), (Knowledge.ADAPTIVE,)


def purifier_of(gamma: float, args: argparse.Namespace) -> CDVAE:
    """A CD-VAE trained on clean images; from its checkpoint if it was made."""
    with seeded(args.seed):
        purifier = CDVAE(**SHAPE)
    ablations.train(CDVAETraining(purifier, gamma=gamma), "cdvae", epochs=args.epochs, **_common(args))
    return purifier.eval().requires_grad_(False)


def classifier_of(what: str, part: nn.Module | None, args: argparse.Namespace) -> nn.Module:
    """A classifier trained on a part of the images, or on the images themselves."""
    with seeded(args.seed):
        classifier = SmallCNN(channels=1, width=16)
    # The epochs of the part are in the name: its weights are not in the stamp.
    name = f"classifier of {what}, {args.epochs} epochs"
    ablations.train(ClassifierObjective(classifier, purifier=part), name, epochs=args.epochs, **_common(args))
    return classifier.eval().requires_grad_(False)


def defended(gamma: float, args: argparse.Namespace) -> tuple[CDVAE, nn.Module]:
    """G and the classifier that was trained on G(x): the grey-box defence."""
    purifier = purifier_of(gamma, args)
    return purifier, classifier_of(f"G, gamma {gamma:g}", purifier, args)


def played(variant: str, args: argparse.Namespace) -> tuple[CDVAE, nn.Module]:
    """G and D_G after the game, which begins where the released one does: clean CD-VAE, classifier of x."""
    purifier = copy.deepcopy(purifier_of(args.start_gamma, args))
    classifier = presets.load("fashion_mnist_cnn")
    game = CDVAEGame(purifier, classifier, variant=variant, eps=EPS, steps=args.steps)
    name = f"game from gamma {args.start_gamma:g}, {args.epochs} epochs"
    ablations.train(game, name, epochs=args.game_epochs, **_common(args))
    return purifier.eval().requires_grad_(False), classifier.eval().requires_grad_(False)


def _common(args: argparse.Namespace) -> dict[str, Any]:
    return {"images": args.train, "seed": args.seed, "runs": args.runs, "rate": args.rate, "labels": True}


def models(names: list[str], args: argparse.Namespace) -> list[Defended]:
    """The models of a table by name; a classifier of x is what the attackers of Table 6 know."""
    known = presets.load("fashion_mnist_cnn")
    made: dict[str, Defended] = {}
    for name in names:
        if name == UNDEFENDED:
            made[name] = Defended(name, known)
        elif name == ROBUST:
            made[name] = Defended(name, presets.load("fashion_mnist_robust"), surrogate=known, robust=True)
        else:
            purifier, classifier = defended(DEFENCE, args) if name == GREY else played(VARIANTS[name], args)
            purifier.set_sampling(name == SAMPLED)
            made[name] = Defended(name, classifier, purifier, surrogate=known)
    return [*made.values()]


def grey(args: argparse.Namespace) -> Report:
    """The columns of Table 6 in Linf, with StAdv."""
    attacks = [*blind_attacks(EPS, args.quick), _bounded("StAdv", args, TRANSFER)]
    found = models([UNDEFENDED, ROBUST, GREY], args)
    return parts.part("grey", found, attacks, args, threat=Threat("Linf", EPS), knowledge=TRANSFER)


def grey_l2(args: argparse.Namespace) -> Report:
    """The same in L2."""
    found = models([UNDEFENDED, ROBUST, GREY], args)
    attacks = blind_attacks(EPS_L2, args.quick)
    return parts.part("grey_l2", found, attacks, args, threat=Threat("L2", EPS_L2), knowledge=TRANSFER)


def white(args: argparse.Namespace) -> Report:
    """The columns of Table 7 but L2, and PGD-200."""
    return _full("white", [UNDEFENDED, ROBUST, GREY, GAME, RELEASED], _linf_attacks(args), args)


def white_l2(args: argparse.Namespace) -> Report:
    """AutoAttack and PGD-200 in L2, which nobody was trained against."""
    names = [UNDEFENDED, ROBUST, GREY, GAME, RELEASED]
    return _full("white_l2", names, full_attacks(args.quick), args, Threat("L2", EPS_L2))


def jpeg(args: argparse.Namespace) -> Report:
    """JPEG at a bound that breaks the undefended classifier; at the paper's it hardly moves one of these images."""
    steps = 2 if args.quick else 100
    attack = Attack("native", "JPEG", {"steps": steps, "eps": WIDE_JPEG}, images=max(1, args.images // 4))
    found = models([UNDEFENDED, ROBUST, GREY, GAME, RELEASED], args)
    return parts.part("jpeg", found, [attack], args, threat=Threat("Linf", EPS), knowledge=FULL)


def sampled(args: argparse.Namespace) -> Report:
    """`white` for the model that draws z, which costs twenty times as much."""
    args = argparse.Namespace(**{**vars(args), "images": min(args.images, args.random_images)})
    return _full("sampled", [UNDEFENDED, SAMPLED], _linf_attacks(args, share=1), args)


def _linf_attacks(args: argparse.Namespace, share: int = 4) -> list[Attack]:
    return [*full_attacks(args.quick), *(_bounded(name, args, FULL, share) for name in ("JPEG", "StAdv"))]


def _full(
    name: str, names: list[str], attacks: list[Attack], args: argparse.Namespace, threat: Threat | None = None
) -> Report:  # fmt: skip
    probe = Probe(4, 2) if args.quick else Probe(32, 20, seeds=3)
    options = {"threat": threat or Threat("Linf", EPS), "knowledge": FULL + OWN, "probe": probe}
    return parts.part(name, models(names, args), attacks, args, **options)


def blind_attacks(eps: float, quick: bool) -> list[Attack]:
    """PGD-100 and what the paper calls C&W, PGD on the margin, in steps of eps / sqrt(100), on a classifier of x."""
    steps = {"steps": 2 if quick else 100, "step_size": eps / 10, "best": False}
    return [Attack("native", "PGD", {**steps, **loss}, knowledge=TRANSFER) for loss in ({}, {"loss": "margin"})]


def full_attacks(quick: bool, few: int | None = None) -> list[Attack]:
    """PGD-200 and AutoAttack through everything, on `few` images where z is drawn, and PGD away from the latents."""
    attacks = [
        Attack("native", "PGD", {"steps": 3 if quick else 200}, knowledge=FULL),
        Attack("native", "PGD", {"steps": 3 if quick else 100}, knowledge=OWN, label="PGD-100, own gradients"),
    ]
    if not quick:
        attacks.append(Attack("autoattack", "standard", on="deterministic", knowledge=FULL))
        attacks.append(Attack("autoattack", "rand", images=few, on="randomised", knowledge=FULL))
    return attacks


def _bounded(name: str, args: argparse.Namespace, knowledge: tuple[Knowledge, ...], share: int = 4) -> Attack:
    """On one image in `share`."""
    images = max(1, args.images // share)
    return Attack("native", name, {"steps": 2 if args.quick else 100}, images=images, knowledge=knowledge)


PARTS: Mapping[str, parts.Part] = {
    "grey": grey,
    "grey_l2": grey_l2,
    "white": white,
    "white_l2": white_l2,
    "jpeg": jpeg,
    "sampled": sampled,
}


def analysis(args: argparse.Namespace) -> dict[str, Any]:
    """Means and deviations of Tables 1 and 2, correlations of Fig. 3, accuracies of Table 3; Fig. 2 as a picture."""
    data, purifier = fashion_mnist("test", args.images), purifier_of(UNDERSTANDING, args)
    found = decompose(purifier, data.x, _attacked(data.x, data.y, args))
    _picture(plots.decompositions({k: v[:6] for k, v in found.items()}), args, "analysis")
    norms = {part: {k: _spread(v) for k, v in sizes.items()} for part, sizes in part_norms(found).items()}
    similarity = {part: _spread(cosine(found[f"{part}(x)"], found[f"{part}(x')"])) for part in ("G", "R")}
    features = {k: pooled(v) for k, v in found.items()}
    pairs = {part: (features[f"{part}(x)"], features[f"{part}(x')"]) for part in ("G", "R")}
    distance = {part: [frechet_distance(*pair), float(pair[0].var(0).sum())] for part, pair in pairs.items()}
    latents = [purifier.latents(found[k]) for k in ("x", "x'")]
    trained: dict[str, nn.Module | None] = {"x": None, "G(x)": purifier, "R(x)": Residual(purifier)}
    classifiers = {k: classifier_of(f"{k}, gamma {UNDERSTANDING:g}", part, args) for k, part in trained.items()}
    tested = {"x": found["x"], "G(x)": found["G(x)"].clamp(0, 1), "R(x)": found["R(x)"]}  # as each was trained on them
    crossed = {f"top-{n}": cross_classification(classifiers, tested, data.y, top=n) for n in (1, 5)}
    made = {
        "norms": norms,
        "cosine": similarity,
        "frechet": distance,
        "correlation": latent_correlation(*latents).tolist(),
    }
    return made | crossed | ablations.stated(vars(args))


def gamma(args: argparse.Namespace) -> dict[str, Any]:
    """Fig. 4: accuracies for each gamma, against PGD-100 on a classifier of x; as a picture too.

    Detection is by Mahalanobis distance in the features of R(x), at 5 % false alarms on other test images; the paper
    does not say what its own is.
    """
    data, spare = fashion_mnist("test", args.images), fashion_mnist("test").x[args.images :]  # for the threshold
    if not len(spare):
        raise ValueError(f"expected --images below {len(data.x)}, so that others are left for a threshold")
    made = {g: defended(g, args) for g in args.gammas}
    x_adv, train = _attacked(data.x, data.y, args), fashion_mnist("train", args.train)

    def detection(purifier: CDVAE) -> float:
        """Mean of the shares of clean images that pass and of attacked ones that are flagged."""
        assert purifier.residual_classifier is not None
        network = on_residuals(purifier, purifier.residual_classifier)
        detector = Mahalanobis(network, [f"1.stages.{i}" for i in range(4)]).fit(train.x, train.y)
        with torch.no_grad():
            unseen, clean, attacked = (detector.scores(v) for v in (spare, data.x, x_adv))
        threshold = threshold_at(unseen, 0.05)
        return float((clean <= threshold).double().mean() + (attacked > threshold).double().mean()) / 2

    rows = trade_off(
        {g: purifier for g, (purifier, _) in made.items()}, data.x, data.y, x_adv=x_adv, detection=detection,
        classifiers={g: classifier for g, (_, classifier) in made.items()},
    )  # fmt: skip
    _picture(plots.trade_off_curve(rows), args, "gamma")
    return {"rows": rows} | ablations.stated(vars(args))


OTHERS: Mapping[str, parts.Other] = {"analysis": analysis, "gamma": gamma}


def pooled(x: Tensor) -> Tensor:
    """Means over the image of the last convolution's features (N, F), of a network that nobody attacks here."""
    with torch.no_grad():
        features: Tensor = FeatureExtractor(presets.load("fashion_mnist_vgg"), "features.relu3_3")(x)
    return features.mean((2, 3))


def _attacked(x: Tensor, y: Tensor, args: argparse.Namespace) -> Tensor:
    """PGD-100 on a classifier of x."""
    gradient = ascent(cross_entropy(presets.load("fashion_mnist_cnn"), y))
    with seeded(0):
        return pgd(gradient, x, norm=Linf(), eps=EPS, steps=2 if args.quick else 100, step_size=EPS / 10)


def _spread(values: Tensor) -> list[float]:
    return [float(values.mean()), float(values.std(correction=0))]


def _picture(figure: Any, args: argparse.Namespace, name: str) -> None:
    with replacing(args.out / f"{PREFIX}_{name}.png") as temporary:
        temporary.write_bytes(plots.png(figure))


def main() -> None:
    parser = parts.arguments(__doc__, [*PARTS, *OTHERS], "runs/cdvae_table")
    parser.add_argument("--train-only", action="store_true", help="make the networks and stop")
    parser.add_argument("--epochs", type=int, default=15, help="of each CD-VAE on clean images and of each classifier")
    parser.add_argument("--game-epochs", type=int, default=10)
    parser.add_argument("--train", type=int, default=8000, help="training images")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's")
    parser.add_argument("--steps", type=int, default=7, help="of the game's attack")
    parser.add_argument(
        "--start-gamma", type=float, default=UNDERSTANDING, help="of the CD-VAE that the game begins at"
    )
    parser.add_argument("--gammas", type=float, nargs="+", default=list(GAMMAS))
    parser.add_argument("--random-images", type=int, default=64, help="for the model that draws z")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.train_only:
        models([GREY, *VARIANTS], args)
        for value in args.gammas:
            defended(value, args)
    elif parts.run(args, PREFIX, PARTS, OTHERS):
        print(table(parts.load(args.out, PREFIX, list(PARTS))), findings_table(args.out, PREFIX), sep="\n\n")


if __name__ == "__main__":
    main()
