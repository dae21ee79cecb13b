"""Defend a Fashion-MNIST classifier with RDP, attack it with three libraries, and see what is left.

    python examples/01_quickstart.py                       # what `make demo` runs, under three minutes on two cores
    python examples/01_quickstart.py --images 1000 --out out/long

Writes report.json, report.html and the pictures in it: accuracy.png, curves.png, repeats.png, images.png. Where
CIFAR-10's files lie in data/ or in --cifar10, a quarter as many of its images are attacked too: cifar10.json,
cifar10.html, cifar10.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from art_ext import plots, presets
from art_ext.cli.display import show
from art_ext.data import Images, cifar10, fashion_mnist
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Threat, evaluate, save_page
from art_ext.purifiers import RDP

# AutoAttack stops at what breaks the model that it sees: here for the attacker who sees all of it.
FULL = (Knowledge.FULL,)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=int, default=100, help="test images, the same for every attack")
parser.add_argument("--steps", type=int, default=20, help="of PGD")
parser.add_argument("--queries", type=int, default=300, help="of Square, the last part of AutoAttack")
parser.add_argument("--eot-samples", "--draws", type=int, default=4, help="of EOT against the randomised defence")
parser.add_argument("--workers", type=int, default=2, help="processes that make the attacks")
parser.add_argument("--cifar10", type=Path, help="folder of cifar-10-batches-bin")
parser.add_argument("--out", type=Path, default=Path("out/demo"))


def attacks(steps: int, eot_samples: int, queries: int) -> list[Attack]:
    pgd, short = {"steps": steps, "step_size": 0.01}, {"steps": 3 * steps // 2, "targets": 2, "queries": queries}
    return [
        Attack("art", "PGD", pgd | {"num_random_init": 1}, on="deterministic"),
        Attack("torchattacks", "PGD", pgd, on="deterministic"),
        Attack("native", "AutoAttack", short, on="deterministic", knowledge=FULL),
        Attack("native", "PGD", pgd, on="randomised", knowledge=(Knowledge.BLIND,)),
        Attack(
            "native",
            "AutoAttack",
            {"steps": max(1, 3 * steps // 5), "targets": 1, "queries": 0},
            eot_samples=eot_samples,
            on="randomised",
            knowledge=FULL,
            label=f"native APGD-CE and APGD-T + EOT-{eot_samples}",
        ),
    ]


def look(model: Defended, data: Images, threat: Threat, steps: int) -> bytes:
    """Six images, attacked without and with knowledge of the purifier, before and after it, as PNG."""
    attack = Attack("native", "PGD", {"steps": steps, "step_size": threat.eps / 10})
    x, y = data.x[:6], data.y[:6]
    blind, full = (attack(model.target(k), x, y, threat) for k in (Knowledge.BLIND, Knowledge.FULL))
    assert isinstance(model.purifier, RDP)
    columns = {"clean": x, "blind attack": blind, "blind, purified": model.purifier(blind)}
    columns |= {"full attack": full, "full, purified": model.purifier(full)}
    return plots.png(plots.image_grid(columns, errors=[(name, "clean") for name in columns if name != "clean"]))


def on_cifar10(args: argparse.Namespace) -> list[str]:
    """The same defence with presets for CIFAR-10, whose images do not ship; names of the files written."""
    try:
        data = cifar10("test", max(1, args.images // 4), args.cifar10)
    except (FileNotFoundError, ValueError) as missing:
        print(f"no table for CIFAR-10: {missing}")
        return []
    classifier, threat = presets.load("cifar10_resnet"), Threat("Linf", 8 / 255)
    models = [
        Defended("undefended", classifier),
        Defended("adversarially trained", presets.load("cifar10_robust"), robust=True),
        Defended("RDP", classifier, presets.load("cifar10_rdp")),
    ]
    plan = [
        Attack("native", "PGD", {"steps": args.steps}),
        Attack("native", "AutoAttack", {"steps": args.steps, "targets": 1, "queries": 0}, knowledge=FULL),
    ]
    report = evaluate(models, plan, data.x, data.y, threat=threat, executor=args.workers if args.workers > 1 else None)
    picture = look(models[2], data, threat, args.steps)
    report.save(args.out / "cifar10.json")
    save_page(report, args.out / "cifar10.html", {"Images, attacked and purified": picture})
    (args.out / "cifar10.png").write_bytes(picture)
    print(f"CIFAR-10, the first {len(data.x)} test images:")
    show(report)
    return ["cifar10.json", "cifar10.html", "cifar10.png"]


def main() -> None:
    args = parser.parse_args()
    data = fashion_mnist("test", args.images)
    classifier = presets.load("fashion_mnist_cnn")
    rdp, dynamic = presets.load("fashion_mnist_rdp"), presets.load("fashion_mnist_rdp")
    assert isinstance(rdp, RDP)
    assert isinstance(dynamic, RDP)
    models = [
        Defended("undefended", classifier),
        Defended("adversarially trained", presets.load("fashion_mnist_robust"), robust=True),
        Defended("RDP", classifier, rdp),
        Defended("dynamic RDP", classifier, dynamic.set_noise(0.05)),
    ]
    threat = Threat("Linf", 0.1)
    plan = attacks(args.steps, args.eot_samples, args.queries)
    probe = Probe(max(1, args.images // 8), steps=max(1, args.steps // 2))
    report = evaluate(
        models, plan, data.x, data.y, threat=threat, eot_samples=args.eot_samples, repeats=5, probe=probe,
        executor=args.workers if args.workers > 1 else None,
    )  # fmt: skip

    pictures = plots.figures(report) | {"Images, attacked and purified": look(models[2], data, threat, args.steps)}
    args.out.mkdir(parents=True, exist_ok=True)
    report.save(args.out / "report.json")
    save_page(report, args.out / "report.html", pictures)
    names = [f"{name}.png" for name in ("accuracy", "curves", "repeats", "images")]
    for name, picture in zip(names, pictures.values(), strict=True):
        (args.out / name).write_bytes(picture)
    show(report)
    names += ["report.json", "report.html", *on_cifar10(args)]
    print(f"written to {args.out}: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main()
