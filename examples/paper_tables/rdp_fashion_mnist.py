"""RDP on Fashion-MNIST: what the paper measures (attackers who ignore the purifier), and what is left without that.

    python examples/paper_tables/rdp_fashion_mnist.py                    # about an hour on one core
    python examples/paper_tables/rdp_fashion_mnist.py --images 64 --quick

Blind and transfer rows include ART's JPEG compression, median filter and bit-depth reduction in the same run. The
strongest full attack is looked for with several losses, Auto-PGD, AutoAttack and the own attack of the method; the
classifier network, adversarially trained, stands beside. A killed run goes on where it was (`--runs`).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from art.defences.preprocessor import FeatureSqueezing, JpegCompression, SpatialSmoothing

from art_ext import presets
from art_ext.data import fashion_mnist
from art_ext.defences import ArtPurifier
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, evaluate
from art_ext.purifiers import RDP

EPS = 0.1
STEP = {"step_size": 0.01}
CLIP = (0.0, 1.0)
DATA = {"name": "Fashion-MNIST test, the stratified 2,000 images that ship with the package", "order": "the first ones"}
BASELINES = {
    "JPEG (quality 50)": partial(JpegCompression, CLIP, quality=50, channels_first=True),
    "median filter (3x3)": partial(SpatialSmoothing, window_size=3, channels_first=True, clip_values=CLIP),
    "bit depth (2 bits)": partial(FeatureSqueezing, CLIP, bit_depth=2),
}


def adversarially_trained() -> Defended:
    return Defended("adversarially trained", presets.load("fashion_mnist_robust"), robust=True)


def blind_and_transfer(args: argparse.Namespace) -> Report:
    """The paper's kind of attacker: PGD-40 and MI-FGSM-10 on the classifier alone or on a surrogate."""
    data = fashion_mnist("test", args.images)
    classifier, surrogate = presets.load("fashion_mnist_cnn"), presets.load("fashion_mnist_surrogate")
    purifiers = {"RDP": presets.load("fashion_mnist_rdp")}
    purifiers |= {name: ArtPurifier(make()) for name, make in BASELINES.items()}
    models = [Defended("undefended", classifier), adversarially_trained()]
    models += [Defended(name, classifier, p, surrogate) for name, p in purifiers.items()]  # type: ignore[arg-type]
    attacks = [
        Attack("native", "PGD", {"steps": 40, **STEP, "best": False}),
        Attack("native", "MI-FGSM", {"steps": 10}),
    ]
    known = (Knowledge.TRANSFER, Knowledge.BLIND)
    # No purifier is known to these attackers, so there is nothing to sweep.
    return evaluate(
        models, attacks, data.x, data.y, threat=Threat("Linf", EPS), knowledge=known, probe=None,
        folder=args.runs / "rdp_blind", data=DATA | {"images": args.images},
    )  # fmt: skip


def white_box(args: argparse.Namespace) -> Report:
    """Attackers who know the purifier: BPDA, exact gradients, its own weakness; without and with noise (EOT)."""
    images = min(args.images, args.white_images)
    data = fashion_mnist("test", images)
    classifier = presets.load("fashion_mnist_cnn")
    rdp, dynamic = presets.load("fashion_mnist_rdp"), presets.load("fashion_mnist_rdp")
    assert isinstance(rdp, RDP)
    assert isinstance(dynamic, RDP)
    models = [
        Defended("undefended", classifier),
        adversarially_trained(),
        Defended("RDP", classifier, rdp),
        Defended("dynamic RDP", classifier, dynamic.set_noise(0.05)),
    ]
    few, steps = max(1, images // 8), 10 if args.quick else 100
    fixed, drawn = {"on": "deterministic"}, {"on": "randomised"}
    attacks = [
        Attack("native", "PGD", {"steps": 40, **STEP}, **fixed),
        Attack("native", "PGD", {"steps": steps, "loss": "margin", **STEP}, images=2 * few, **fixed),
        Attack("native", "APGD", {"steps": steps, "loss": "dlr"}, images=2 * few, **fixed),
        Attack("native", "PGD", {"steps": 3 * steps // 10, **STEP}, images=2 * few, **drawn),
        Attack("native", "StAdv", {"steps": steps // 2}, images=2 * few, **fixed),
    ]
    if not args.quick:  # the version's four attacks; Square early, since BPDA leaves the gradient ones little to follow
        order = ["apgd-ce", "square", "apgd-t", "fab-t"]
        attacks.append(Attack("autoattack", "standard", {"order": order}, images=few, **fixed))
        attacks.append(Attack("autoattack", "rand", images=few, **drawn))
    known = (Knowledge.BPDA, Knowledge.FULL, Knowledge.ADAPTIVE)
    probe = Probe(4, 2) if args.quick else Probe(64, 20, seeds=3)
    return evaluate(
        models, attacks, data.x, data.y, threat=Threat("Linf", EPS), knowledge=known,
        eot_samples=2 if args.quick else 10, repeats=10, probe=probe, folder=args.runs / "rdp_white",
        data=DATA | {"images": images},
    )  # fmt: skip


def targeted(args: argparse.Namespace) -> Report:
    """Table 4's attacker: a random other class, 10 steps of eps / 8, one draw of the noise; and PGD-20 + EOT-20."""
    data, classifier = fashion_mnist("test", args.targeted_images), presets.load("fashion_mnist_cnn")
    dynamic = presets.load("fashion_mnist_rdp")
    assert isinstance(dynamic, RDP)
    models = [
        Defended("undefended", classifier),
        adversarially_trained(),
        Defended("dynamic RDP", classifier, dynamic.set_noise(0.05)),
    ]
    few = {"steps": 2} if args.quick else {"steps": 10}
    attacks = [
        Attack("native", "PGD", {**few, "step_size": EPS / 8, "best": False, "random_start": False}, eot_samples=1,
               targeted="random", label="targeted PGD-10"),
        Attack("native", "PGD", {"steps": 2 if args.quick else 20, **STEP}, args.targeted_images // 4, label="PGD-20"),
    ]  # fmt: skip
    return evaluate(
        models, attacks, data.x, data.y, threat=Threat("Linf", EPS), knowledge=(Knowledge.FULL,), probe=None,
        eot_samples=2 if args.quick else 20, repeats=10, folder=args.runs / "rdp_targeted",
        data=DATA | {"images": args.targeted_images},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="for attackers who do not know the purifier")
    parser.add_argument("--white-images", type=int, default=256, help="for those who do")
    parser.add_argument("--quick", action="store_true", help="few steps, no AutoAttack")
    parser.add_argument(
        "--parts", nargs="+", default=["blind", "white", "targeted"], choices=["blind", "white", "targeted"]
    )
    parser.add_argument("--targeted-images", type=int, default=512, help="for Table 4's protocol")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where a run keeps its state and examples")
    args = parser.parse_args()
    parts = {"blind": blind_and_transfer, "white": white_box, "targeted": targeted}
    for name in args.parts:
        report = parts[name](args)
        report.save(args.out / f"rdp_fashion_mnist_{name}.json")
        print(report.markdown())


if __name__ == "__main__":
    main()
