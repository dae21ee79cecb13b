"""AToP on Fashion-MNIST: the poster's Table 7, whose attacks see the classifier alone, and what is left without that.

    python examples/paper_tables/atop_fashion_mnist.py --train-only         # the purifiers, about one hour on one core
    python examples/paper_tables/atop_fashion_mnist.py --shard 0 2 &        # the table in two halves ...
    python examples/paper_tables/atop_fashion_mnist.py --shard 1 2; wait
    python examples/paper_tables/atop_fashion_mnist.py --merge 2            # ... and one result of both
    python examples/paper_tables/atop_fashion_mnist.py --images 4 --quick --pretraining-epochs 1 --epochs 1 --train 8

Each transform has a generator pre-trained behind it, and the same one fine-tuned for the classifier (`+ AToP`).
`blind`: FGSM and PGD on the classifier alone, as in the poster. `strong`, `strong_rt3`: exact gradients averaged over
draws, AutoAttack, StAdv. `frozen`: one draw that attacker and defence share. `known` and `unseen`: RT2 fine-tuned
against one attack, tested under the others; `unseen` is in L2. RT2 without a generator tells what is owed to noise and
holes alone, and the fine-tuning without a classifier what is owed to its length. AutoAttack and StAdv see the first
`--long-images`, PGD under EOT the first `--averaged-images`, and lets an image rest while 20 fresh draws misclassify
it. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import ablations
import parts
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import L2
from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Defended, Knowledge, Report, Threat
from art_ext.nn import seeded
from art_ext.purifiers import AToP
from art_ext.purifiers.atop import AToPFineTuning, AToPPretraining, RandomTransform

PREFIX = "atop_fashion_mnist"
EPS, EPS_L2 = 0.1, 1.5
SHAPE: dict[str, Any] = {"channels": 1, "width": 8, "dilations": [1, 2, 1]}
UNDEFENDED, ROBUST, TUNED, NOISE = "undefended", "adversarially trained", " + AToP", "RT2, no generator"
FROZEN = ", frozen"
KINDS = ("RT1", "RT2", "RT3")
GAMES: dict[str, dict[str, Any]] = {  # what RT2 is fine-tuned against
    "RT2 + AToP": {"attack": "fgsm", "eps": EPS},
    "RT2 + AToP, PGD": {"attack": "pgd", "eps": EPS},
    "RT2 + AToP, PGD in L2": {"attack": "pgd", "eps": EPS_L2, "norm": L2()},
    "RT2 + AToP, PGD through the purifier": {"attack": "purifier", "eps": EPS, "steps": 5},
    "RT2 + clean images": {"data": "clean"},
    "RT2, trained as long without a classifier": {"data": "clean", "weight": 0.0},
}
COLUMNS = {
    "FGSM, blind": ("native FGSM, blind", "native FGSM"),
    "PGD-10, blind": ("native PGD-10, blind", "native PGD-10"),
    "PGD-20, blind": ("native PGD-20, blind", "native PGD-20"),
    "PGD-1000, blind": ("native PGD-1000, blind", "native PGD-1000"),
    "PGD-200 + EOT-20": ("native PGD-200",),
    "PGD-50 + EOT-20": ("native PGD-50",),
    "AutoAttack": ("autoattack standard", "autoattack rand"),
    "StAdv-50": ("native StAdv-50 0.05",),
}
GAINS = [
    *((f"{kind}{TUNED}", kind) for kind in KINDS),
    ("RT2" + TUNED, "RT1" + TUNED),
    ("RT2" + TUNED, "RT3" + TUNED),
    ("RT3" + TUNED, "RT1" + TUNED),
    ("RT2", NOISE),
    *((f"{kind}{tuned}", UNDEFENDED) for kind in KINDS for tuned in ("", TUNED)),
    *((f"{kind}{TUNED}{FROZEN}", kind + FROZEN) for kind in KINDS),
]
"""What fine-tuning adds, the poster's order RT2 > RT3 > RT1, what the generator adds to noise, what it all costs."""
CHECK_EVERY = 10
BLIND, FULL = (Knowledge.BLIND,), (Knowledge.FULL,)
LINF: dict[str, Any] = {"threat": Threat("Linf", EPS), "knowledge": BLIND + FULL}


def trained(name: str, args: argparse.Namespace) -> AToP:
    """A purifier of the table: pre-trained, and fine-tuned where its name says so; from checkpoints if it was made."""
    kind, tuned = name[:3], name != name[:3]
    classifier = presets.load("fashion_mnist_cnn")
    with seeded(args.seed):
        purifier = AToP(transform=kind, **SHAPE)
        first = AToPPretraining(purifier, adversarial=args.adversarial)
    common: dict[str, Any] = {"images": args.train, "seed": args.seed, "runs": args.runs, "betas": (0.5, 0.999)}
    ablations.train(first, kind, epochs=args.pretraining_epochs, rate=args.rate, labels=False, **common)
    if tuned:
        game = {"attack": "fgsm", "eps": EPS, "adversarial": args.adversarial, "weight": args.weight}
        game |= GAMES.get(name, {})
        second = AToPFineTuning(purifier, classifier, discriminator=first.discriminator, **game)
        rate = args.rate * args.tuning_share
        ablations.train(second, name, epochs=args.epochs, rate=rate, labels=True, **common)
    return purifier.eval().requires_grad_(False)


def models(names: list[str], args: argparse.Namespace, frozen: bool = False) -> list[Defended]:
    """The classifier alone, an adversarially trained one, and the classifier behind each of the purifiers named."""
    classifier = presets.load("fashion_mnist_cnn")
    found = [Defended(UNDEFENDED, classifier), Defended(ROBUST, presets.load("fashion_mnist_robust"), robust=True)]
    for name in names:
        purifier = trained(name, args).set_transform(0 if frozen else None)
        found.append(Defended(f"{name}{FROZEN}" if frozen else name, classifier, purifier))
    return found


def noise_alone(classifier: nn.Module) -> Defended:
    """RT2's noise and holes, and nothing that restores."""
    transform = RandomTransform("RT2")

    def disturbed(x: Tensor) -> Tensor:
        return transform(x, transform.draw(x))[0]

    purifier = as_purifier(disturbed, stochastic=True, differentiable=True)
    return Defended(NOISE, classifier, purifier)


def part(name: str, found: list[Defended], attacks: list[Attack], args: argparse.Namespace, **options: Any) -> Report:
    """A report that says how the purifiers were trained."""
    keys = ("pretraining_epochs", "epochs", "train", "rate", "tuning_share", "weight", "adversarial", "seed")
    about = {"purifiers": {**SHAPE, **{k: vars(args)[k] for k in keys}}}
    return parts.part(name, found, attacks, args, about=about, **options)


def averaged(steps: int, args: argparse.Namespace) -> Attack:
    """PGD along exact gradients, averaged over draws."""
    lengths = {"steps": 3, "check_every": 2} if args.quick else {"steps": steps, "check_every": CHECK_EVERY}
    return Attack("native", "PGD", lengths, args.averaged_images, knowledge=FULL)


def stadv(args: argparse.Namespace) -> list[Attack]:
    """StAdv of 50 steps, with averaged gradients; it is slow."""
    return [] if args.quick else [Attack("native", "StAdv", {"steps": 50}, args.long_images, knowledge=FULL)]


def table_7() -> list[str]:
    return [f"{kind}{tuned}" for kind in KINDS for tuned in ("", TUNED)]


def blind(args: argparse.Namespace) -> Report:
    """The columns of Table 7."""
    step = {"step_size": EPS / 4, "best": False}
    lengths = (2, 3) if args.quick else (10, 20, 1000)
    attacks = [Attack("native", "FGSM", knowledge=BLIND)]
    attacks += [Attack("native", "PGD", {"steps": steps, **step}, knowledge=BLIND) for steps in lengths]
    found = models(table_7(), args)
    return part("blind", [*found, noise_alone(found[0].classifier)], attacks, args, **LINF)


def strongest(args: argparse.Namespace) -> list[Attack]:
    """Of attackers who see the purifier and average over its draws."""
    attacks = [averaged(200, args)]
    if not args.quick:
        attacks.append(Attack("autoattack", "standard", images=args.long_images, on="deterministic", knowledge=FULL))
        attacks.append(Attack("autoattack", "rand", images=args.long_images, on="randomised", knowledge=FULL))
    return attacks + stadv(args)


def strong(args: argparse.Namespace) -> Report:
    """The strongest attacks on all but RT3, which costs three times as much."""
    found = models([name for name in table_7() if not name.startswith("RT3")], args)
    return part("strong", [*found, noise_alone(found[0].classifier)], strongest(args), args, **LINF)


def strong_rt3(args: argparse.Namespace) -> Report:
    """The same on RT3 alone, which may be of fewer images."""
    found = models([name for name in table_7() if name.startswith("RT3")], args)
    return part("strong_rt3", [m for m in found if m.purifier is not None], strongest(args), args, **LINF)


def frozen(args: argparse.Namespace) -> Report:
    """The same networks behind one draw that everyone knows."""
    return part("frozen", models(table_7(), args, frozen=True), [averaged(200, args)], args, **LINF)


def known(args: argparse.Namespace) -> Report:
    """RT2 fine-tuned against several attacks, under the poster's attack, the full one, and StAdv."""
    steps = {"steps": 2 if args.quick else 20, "step_size": EPS / 4, "best": False}
    attacks = [Attack("native", "PGD", steps, knowledge=BLIND), averaged(50, args), *stadv(args)]
    return part("known", models(["RT2", *GAMES], args), attacks, args, **LINF)


def unseen(args: argparse.Namespace) -> Report:
    """The same in L2."""
    steps = {"steps": 2 if args.quick else 20, "best": False}
    attacks = [Attack("native", "PGD", steps, knowledge=BLIND), averaged(50, args)]
    threat = Threat("L2", EPS_L2)
    return part("unseen", models(["RT2", *GAMES], args), attacks, args, threat=threat, knowledge=BLIND + FULL)


PARTS: Mapping[str, parts.Part] = {
    "blind": blind, "strong": strong, "strong_rt3": strong_rt3, "frozen": frozen, "known": known, "unseen": unseen
}  # fmt: skip


def table(reports: Mapping[str, Report], l2: Report | None = None) -> str:
    """Table 7 beside the strongest attacks, and what fine-tuning against one attack gives against others.

    Of parts that have been measured; without the strong one a model has no worst case, since that of blind attackers
    would be none.

    Args:
        reports: by part.
        l2: AutoAttack in L2 on the networks without a purifier, from another report of the same images: PGD is a weak
            attack on the adversarially trained one there.
    """
    seven = [reports[k] for k in ("blind", "strong", "strong_rt3", "frozen") if k in reports]
    worst_over: dict[str, list[Report]] = {}
    for name in ("strong", "strong_rt3"):
        if name in reports:
            both = [reports[k] for k in ("blind", name) if k in reports]
            worst_over |= dict.fromkeys(reports[name].models(), both)
    if "frozen" in reports:
        worst_over |= {m: [reports["frozen"]] for m in reports["frozen"].models() if m.endswith(FROZEN)}
    lines = [parts.table(seven, COLUMNS, worst_over), parts.gains(seven, GAINS, COLUMNS)] if seven else []
    for norm, part, eps in (("Linf", "known", EPS), ("L2", "unseen", EPS_L2)):
        if part in reports:
            found = reports[part]
            more = [parts.only(l2, (UNDEFENDED, ROBUST), ["autoattack"])] if norm == "L2" and l2 is not None else []
            lines += [f"{norm} {eps:g}, by what RT2 was fine-tuned against:"]
            lines += [parts.table([found, *more], COLUMNS, {m: [found, *more] for m in found.models()})]
            lines += [parts.gains([found], [(game, "RT2") for game in GAMES], COLUMNS)]
    return "\n\n".join(lines)


def main() -> None:
    parser = parts.arguments(__doc__, list(PARTS), "runs/atop_table")
    parser.add_argument("--train-only", action="store_true", help="make the purifiers and stop")
    parser.add_argument("--long-images", type=int, default=64, help="for AutoAttack and StAdv")
    parser.add_argument("--averaged-images", type=int, help="for PGD averaged over draws; all unless given")
    parser.add_argument("--pretraining-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=8, help="of the fine-tuning")
    parser.add_argument("--train", type=int, default=8000, help="training images")
    parser.add_argument(
        "--rate", type=float, default=1e-3, help="Adam's; the released 1e-4 starts from a trained generator"
    )
    parser.add_argument("--tuning-share", type=float, default=0.3, help="of that rate in the fine-tuning")
    parser.add_argument("--weight", type=float, default=0.05, help="lambda")
    parser.add_argument("--adversarial", type=float, default=0.1, help="weight of the GAN term")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.train_only:
        for name in dict.fromkeys([*table_7(), *GAMES]):
            trained(name, args)
    elif parts.run(args, PREFIX, PARTS, {}):
        print(table(parts.load(args.out, PREFIX, list(PARTS))))


if __name__ == "__main__":
    main()
