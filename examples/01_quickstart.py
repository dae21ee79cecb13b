"""Defend a Fashion-MNIST classifier with RDP, attack it with three libraries, and see what is left.

    python examples/01_quickstart.py                       # what `make demo` runs, under three minutes on two cores
    python examples/01_quickstart.py --images 1000 --out out/long

Writes report.json, report.html, images.png and accuracy.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from art_ext import plots, presets
from art_ext.data import fashion_mnist
from art_ext.evaluation import Attack, Defended, Knowledge, Report, Threat, evaluate
from art_ext.evaluation.page import save_page
from art_ext.purifiers import RDP

# Square early: BPDA leaves the gradient attacks little to follow, and every attack sees only what is left.
ORDER = ["apgd-ce", "square", "apgd-t", "fab-t"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=int, default=256, help="test images; AutoAttack takes a quarter of them")
parser.add_argument("--steps", type=int, default=20, help="of PGD")
parser.add_argument("--fast", action="store_true", help="only the first of AutoAttack's four attacks")
parser.add_argument("--draws", type=int, default=4, help="of EOT against the randomised defence")
parser.add_argument("--out", type=Path, default=Path("out/demo"))


def attacks(images: int, steps: int, draws: int, fast: bool) -> list[Attack]:
    pgd = {"steps": steps, "step_size": 0.01}
    version, parameters = ("custom", {"attacks": ORDER[:1]}) if fast else ("standard", {"order": ORDER})
    return [
        Attack("art", "PGD", pgd | {"num_random_init": 1}),
        Attack("torchattacks", "PGD", pgd),
        Attack("autoattack", version, parameters, images=max(1, images // 4)),
        Attack("native", "PGD", {"steps": steps // 2, "step_size": 0.01}, draws=draws),
    ]


def show(report: Report) -> None:
    header, rows = report.table()
    table = Table(
        *header, title="Accuracy, 95 % interval, number of images", caption="n differs by row", show_lines=False
    )
    for row, after in zip(rows, [*rows[1:], [None]], strict=True):
        table.add_row(*(v.replace(" % [", " %\n[") for v in row), end_section=row[0] != after[0])
    console = Console(width=120)
    console.print(table)
    for verdict in report.checks:
        console.print(f"{verdict.verdict:>8}  {verdict.model}: {verdict.check}, {verdict.detail}", highlight=False)


def main() -> None:
    args = parser.parse_args()
    data = fashion_mnist("test", args.images)
    classifier = presets.load("fashion_mnist_cnn")
    rdp, dynamic = presets.load("fashion_mnist_rdp"), presets.load("fashion_mnist_rdp")
    assert isinstance(rdp, RDP)
    assert isinstance(dynamic, RDP)
    models = [
        Defended("undefended", classifier),
        Defended("RDP", classifier, rdp),
        Defended("dynamic RDP", classifier, dynamic.set_noise(0.05)),
    ]
    threat = Threat("Linf", 0.1)
    plan = attacks(args.images, args.steps, args.draws, args.fast)
    report = evaluate(models, plan, data.x, data.y, threat=threat, redraws=3)

    attack = Attack("native", "PGD", {"steps": args.steps, "step_size": 0.01})
    x, y = data.x[:6], data.y[:6]
    blind, full = (attack(models[1].target(k), x, y, threat) for k in (Knowledge.BLIND, Knowledge.FULL))
    columns = {"clean": x, "blind attack": blind, "blind, purified": rdp(blind)}
    columns |= {"full attack": full, "full, purified": rdp(full)}
    images = plots.image_grid(columns, errors=[(name, "clean") for name in columns if name != "clean"])
    pictures = {"Images": plots.png(images), "Accuracy": plots.png(plots.accuracy_bars(report))}
    args.out.mkdir(parents=True, exist_ok=True)
    report.save(args.out / "report.json")
    save_page(report, args.out / "report.html", pictures)
    for name, picture in pictures.items():
        (args.out / f"{name.lower()}.png").write_bytes(picture)
    show(report)
    print(f"written to {args.out}: {', '.join(sorted(p.name for p in args.out.iterdir()))}")


if __name__ == "__main__":
    main()
