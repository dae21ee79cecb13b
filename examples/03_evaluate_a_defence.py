"""One defended object, three attack libraries, five attackers, and what is left of each image.

python examples/03_evaluate_a_defence.py --images 64 --out out/evaluate
"""

import argparse
from pathlib import Path

from art_ext import plots, presets
from art_ext.data import fashion_mnist
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Threat, evaluate, save_page

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=int, default=64)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--out", type=Path, default=Path("out/evaluate"))
args = parser.parse_args()

test = fashion_mnist("test", args.images)
network, surrogate = presets.load("fashion_mnist_cnn"), presets.load("fashion_mnist_surrogate")
pgd = {"steps": args.steps, "step_size": 0.01}
report = evaluate(
    [Defended("undefended", network), Defended("RDP", network, presets.load("fashion_mnist_rdp"), surrogate)],
    [
        Attack("native", "PGD", pgd),
        Attack("art", "PGD", pgd),
        Attack("torchattacks", "PGD", pgd),
        Attack("autoattack", "custom", {"attacks": ["apgd-ce"]}),
    ],
    *(test.x, test.y),
    threat=Threat("Linf", 0.1),
    knowledge=[Knowledge.TRANSFER, Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL, Knowledge.ADAPTIVE],
    probe=Probe(images=16, steps=5),
    folder=args.out,  # killed? run it again: it goes on where it was
)
save_page(report, args.out / "report.html", plots.figures(report))
print(report.markdown(), "worst case:", report.worst_case("RDP"))
