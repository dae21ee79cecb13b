"""AToP on Fashion-MNIST: the poster's Table 7, whose attacks see the classifier alone, and what is left without that.

    python examples/paper_tables/atop_fashion_mnist.py --train-only         # the purifiers that are not there yet
    python examples/paper_tables/atop_fashion_mnist.py --shard 0 2 &        # the table in two halves ...
    python examples/paper_tables/atop_fashion_mnist.py --shard 1 2; wait
    python examples/paper_tables/atop_fashion_mnist.py --merge 2            # ... and one result of both
    python examples/paper_tables/atop_fashion_mnist.py --images 4 --quick --pretraining-epochs 1 --epochs 1 --train 8

Each transform has a generator pre-trained behind it, and the same one fine-tuned for the classifier (`+ AToP`).
`blind`: FGSM and PGD on the classifier alone, as in the poster. `averaged`, `autoattack`, `stadv`: exact gradients
averaged over draws. `frozen`: one draw that attacker and defence share. `known` and `unseen`: RT2 fine-tuned against
one attack, tested under the others; `unseen` is in L2. `checks`: PGD swept over budgets, steps, draws and starts. RT2
without a generator tells what is owed to noise and holes alone, and the fine-tuning without a classifier what is owed
to its length. Attacks that average see the first `--slow-images`; PGD under EOT lets an image rest while 20 fresh draws
misclassify it. A killed run goes on where it was, and one of more images makes only what is not there yet.

`--train-only` keeps the purifiers in `--networks`; those that are there and were trained with the same settings are
taken from there. The whole table takes some ten core hours, of which the training is about one; an allocator that
keeps memory (`LD_PRELOAD=libtcmalloc_minimal.so.4`) saves a sixth.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import ablations
import atop_repeats
import parts
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext import presets
from art_ext.attacks import L2
from art_ext.defences import as_purifier
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, paired_difference
from art_ext.files import replacing
from art_ext.nn import seeded
from art_ext.objectives import AToPFineTuning, AToPPretraining
from art_ext.purifiers import AToP
from art_ext.purifiers.atop import RandomTransform

PREFIX = "atop_fashion_mnist"
EPS, EPS_L2 = 0.1, 1.5
SHAPE: dict[str, Any] = {"channels": 1, "width": 8, "dilations": [1, 2, 1], "fold": 4}
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
TRAINING = ("pretraining_epochs", "epochs", "train", "rate", "tuning_share", "weight", "adversarial", "seed")
SEVEN = ("blind", "averaged", "autoattack", "stadv", "frozen")
"""The parts of Table 7 and what stands beside it."""
ORDER = ("RT2", "RT3", "RT1")
"""The poster's, fine-tuned, from the one that keeps most."""
CHECK_EVERY = 10
BLIND, FULL = (Knowledge.BLIND,), (Knowledge.FULL,)
LINF: dict[str, Any] = {"threat": Threat("Linf", EPS), "knowledge": BLIND + FULL}


def trained(name: str, args: argparse.Namespace) -> AToP:
    """A purifier of the table: kept, or made."""
    with seeded(args.seed):
        purifier = AToP(transform=name[:3], **SHAPE)
        first = AToPPretraining(purifier, adversarial=args.adversarial)
    if not kept(purifier, name, args):
        make(first, name, args)
    return purifier.eval().requires_grad_(False)


def make(first: AToPPretraining, name: str, args: argparse.Namespace) -> None:
    """Pre-trains a purifier, and fine-tunes it where its name says so; from checkpoints if there are any."""
    kind, purifier = name[:3], first.purifier
    common: dict[str, Any] = {"images": args.train, "seed": args.seed, "runs": args.runs, "betas": (0.5, 0.999)}
    ablations.train(first, kind, epochs=args.pretraining_epochs, rate=args.rate, labels=False, **common)
    if name != kind:
        game = {"attack": "fgsm", "eps": EPS, "adversarial": args.adversarial, "weight": args.weight}
        game |= GAMES.get(name, {})
        classifier = presets.load("fashion_mnist_cnn")
        second = AToPFineTuning(purifier, classifier, discriminator=first.discriminator, **game)
        rate = args.rate * args.tuning_share
        ablations.train(second, name, epochs=args.epochs, rate=rate, labels=True, **common)


def kept(purifier: AToP, name: str, args: argparse.Namespace) -> bool:
    """Whether `--networks` had its weights, trained with the same settings; they are loaded then."""
    path = where(name, args)
    if not path.is_file():
        return False
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("training") != training(name, args):
            return False
        purifier.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118  no mapping
    return True


def keep(purifier: AToP, name: str, args: argparse.Namespace) -> None:
    """Writes a purifier's weights to `--networks`, with what they were trained by."""
    with replacing(where(name, args)) as temporary:
        save_file(purifier.state_dict(), temporary, {"training": training(name, args)})


def where(name: str, args: argparse.Namespace) -> Path:
    """The file of a purifier's weights."""
    return Path(args.networks, re.sub("[^a-z0-9]+", "_", name.lower()) + ".safetensors")


def training(name: str, args: argparse.Namespace) -> str:
    """What a purifier's weights depend on, as JSON."""
    keys = TRAINING if name not in KINDS else [k for k in TRAINING if k not in ("epochs", "tuning_share", "weight")]
    game = {k: v.name if isinstance(v, L2) else v for k, v in GAMES.get(name, {}).items()}
    return json.dumps({"name": name, **SHAPE, **{k: vars(args)[k] for k in keys}, **game}, sort_keys=True)


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
    about = {"purifiers": {**SHAPE, **{k: vars(args)[k] for k in TRAINING}}}
    return parts.part(name, found, attacks, args, about=about, **options)


def eot_pgd(steps: int, args: argparse.Namespace) -> Attack:
    """PGD along exact gradients, averaged over draws."""
    lengths = {"steps": 3, "check_every": 2} if args.quick else {"steps": steps, "check_every": CHECK_EVERY}
    samples = 10 if args.quick else None  # fewer are too few to check by
    return Attack("native", "PGD", lengths, args.slow_images, samples, knowledge=FULL)


def moved(args: argparse.Namespace) -> Attack:
    """StAdv, with averaged gradients."""
    return Attack("native", "StAdv", {"steps": 2 if args.quick else 50}, args.slow_images, knowledge=FULL)


def table_7() -> list[str]:
    return [f"{kind}{tuned}" for kind in KINDS for tuned in ("", TUNED)]


def blind(args: argparse.Namespace) -> Report:
    """The columns of Table 7."""
    step = {"step_size": EPS / 4, "best": False}
    lengths = (2, 3) if args.quick else (10, 20, 1000)
    attacks = [Attack("native", "FGSM", knowledge=BLIND)]
    attacks += [Attack("native", "PGD", {"steps": steps, **step}, knowledge=BLIND) for steps in lengths]
    return of_all("blind", attacks, args)


def of_all(name: str, attacks: list[Attack], args: argparse.Namespace) -> Report:
    """A report of every row that draws its transforms anew."""
    found = models(table_7(), args)
    return part(name, [*found, noise_alone(found[0].classifier)], attacks, args, **LINF)


def averaged(args: argparse.Namespace) -> Report:
    """PGD by those who see the purifier and average over its draws."""
    return of_all("averaged", [eot_pgd(200, args)], args)


def autoattack(args: argparse.Namespace) -> Report:
    """AutoAttack by the same."""
    attacks = [
        Attack("autoattack", kind, images=args.slow_images, on=on, knowledge=FULL)
        for on, kind in {"deterministic": "standard", "randomised": "rand"}.items()
    ]
    if args.quick:
        attacks = [Attack("autoattack", "custom", {"attacks": ["apgd-ce"]}, on="deterministic")]
    return of_all("autoattack", attacks, args)


def stadv(args: argparse.Namespace) -> Report:
    """StAdv by the same."""
    return of_all("stadv", [moved(args)], args)


def frozen(args: argparse.Namespace) -> Report:
    """The same networks behind one draw that everyone knows."""
    return part("frozen", models(table_7(), args, frozen=True), [eot_pgd(200, args)], args, **LINF)


def known(args: argparse.Namespace) -> Report:
    """RT2 fine-tuned against several attacks, under the poster's attack, the full one, and StAdv."""
    steps = {"steps": 2 if args.quick else 20, "step_size": EPS / 4, "best": False}
    attacks = [Attack("native", "PGD", steps, knowledge=BLIND), eot_pgd(50, args), moved(args)]
    return part("known", models(["RT2", *GAMES], args), attacks, args, **LINF)


def unseen(args: argparse.Namespace) -> Report:
    """The same in L2."""
    steps = {"steps": 2 if args.quick else 20, "best": False}
    attacks = [Attack("native", "PGD", steps, knowledge=BLIND), eot_pgd(50, args)]
    threat = Threat("L2", EPS_L2)
    return part("unseen", models(["RT2", *GAMES], args), attacks, args, threat=threat, knowledge=BLIND + FULL)


def checks(args: argparse.Namespace) -> Report:
    """Whether the fine-tuned ones' attacks can be trusted: the sweeps behind the checks, on 64 images."""
    probe = Probe(4, 2) if args.quick else Probe(64, 20, seeds=3)
    attacks = [Attack("native", "PGD", {"steps": probe.steps}, probe.images)]
    found = models([kind + TUNED for kind in KINDS], args)
    return part("checks", found, attacks, args, probe=probe, **LINF)


PARTS: Mapping[str, parts.Part] = {
    "blind": blind, "averaged": averaged, "autoattack": autoattack, "stadv": stadv, "frozen": frozen,
    "known": known, "unseen": unseen, "checks": checks,
}  # fmt: skip


def table(reports: Mapping[str, Report], l2: Report | None = None) -> str:
    """Table 7 beside the strongest attacks, and what fine-tuning against one attack gives against others.

    Of parts that have been measured; without `averaged` a model has no worst case, since that of blind attackers would
    be none.

    Args:
        reports: by part.
        l2: AutoAttack in L2 on the networks without a purifier, from another report of the same images: PGD is a weak
            attack on the adversarially trained one there.
    """
    seven = [reports[k] for k in SEVEN if k in reports]
    worst_over: dict[str, list[Report]] = {}
    if "averaged" in reports:
        worst_over = dict.fromkeys(reports["averaged"].models(), in_the_ball(reports))
    if "frozen" in reports:
        worst_over |= {m: [reports["frozen"]] for m in reports["frozen"].models() if m.endswith(FROZEN)}
    lines = [parts.table(seven, COLUMNS, worst_over), parts.gains(seven, GAINS, COLUMNS)] if seven else []
    tuned = [kind + TUNED for kind in KINDS]
    if "averaged" in reports and {*tuned} & {*reports["averaged"].models()}:
        lines += [atop_repeats.ABOUT, atop_repeats.curves(in_the_ball(reports), tuned)]
        lines += [atop_repeats.differences(in_the_ball(reports), [pair for pair in GAINS if {*pair} <= {*tuned}])]
    for norm, part, eps in (("Linf", "known", EPS), ("L2", "unseen", EPS_L2)):
        if part in reports:
            found = reports[part]
            more = [parts.only(l2, (UNDEFENDED, ROBUST), ["autoattack"])] if norm == "L2" and l2 is not None else []
            lines += [f"{norm} {eps:g}, by what RT2 was fine-tuned against:"]
            lines += [parts.table([found, *more], COLUMNS, {m: [found, *more] for m in found.models()})]
            lines += [parts.gains([found], [(game, "RT2") for game in GAMES], COLUMNS)]
    return "\n\n".join(lines)


def in_the_ball(reports: Mapping[str, Report]) -> list[Report]:
    """The reports on Table 7's models whose attacks keep to the bound, which a worst case counts."""
    return [reports[k] for k in ("blind", "averaged", "autoattack") if k in reports]


def remains(reports: Mapping[str, Report]) -> str:
    """Sentences on the worst case of the best of the fine-tuned ones, and of the adversarially trained network.

    Empty where one of them or the averaged gradients are missing: the worst case of blind attackers would flatter.
    """
    if "averaged" not in reports:
        return ""
    there = reports["averaged"].models()
    tuned = [m for m in there if m.endswith(TUNED)]
    if not tuned or ROBUST not in there:
        return ""
    return atop_repeats.best(in_the_ball(reports), tuned, ROBUST)


def ordering(reports: Sequence[Report]) -> str:
    """A sentence on the columns in which the poster's order holds, as told by the paired differences of neighbours."""
    found: dict[str, list[str]] = {"holds": [], "holds in the means alone": [], "does not hold": []}
    for column, titles in COLUMNS.items():
        cells = [c for kind in ORDER if (c := parts.cell(reports, kind + TUNED, titles)) is not None]
        if len(cells) < len(ORDER):
            continue
        n = min(c.images for c in cells)
        gaps = [paired_difference(a.survived[:n], b.survived[:n]) for a, b in pairwise(cells)]
        verdict = "holds" if all(g.low > 0 for g in gaps) else "holds in the means alone"
        found[verdict if all(g.mean > 0 for g in gaps) else "does not hold"].append(f"{column} (n={n})")
    told = "; it ".join(f"{verdict} under {', '.join(columns)}" for verdict, columns in found.items() if columns)
    return f"The poster's order of the fine-tuned ones, {' > '.join(ORDER)}, {told}." if told else ""


def main() -> None:
    parser = parts.arguments(__doc__, list(PARTS), "runs/atop_table")
    parser.add_argument("--train-only", action="store_true", help="make the purifiers and stop")
    parser.add_argument("--slow-images", type=int, help="of attacks that average over draws; all unless given")
    parser.add_argument(
        "--networks", type=Path, default=Path("results/atop_fashion_mnist_networks"), help="the trained purifiers"
    )
    parser.add_argument("--pretraining-epochs", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=12, help="of the fine-tuning")
    parser.add_argument("--train", type=int, default=8000, help="training images")
    parser.add_argument(
        "--rate", type=float, default=1e-3, help="Adam's; the released 1e-4 starts from a trained generator"
    )
    parser.add_argument("--tuning-share", type=float, default=0.3, help="of that rate in the fine-tuning")
    parser.add_argument(
        "--weight", type=float, default=0.05, help="lambda; twice the released one, whose L1 is twice as large"
    )
    parser.add_argument("--adversarial", type=float, default=0.1, help="weight of the GAN term")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.train_only:
        for name in dict.fromkeys([*table_7(), *GAMES]):
            keep(trained(name, args), name, args)
    elif parts.run(args, PREFIX, PARTS, {}):
        print(table(parts.load(args.out, PREFIX, list(PARTS))))


if __name__ == "__main__":
    main()
