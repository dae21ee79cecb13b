"""The page's sections on CD-VAE, on detection with its residuals, and on DRRDN."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cdvae_fashion_mnist
import cdvae_tables
import detection as detectors
import detection_fashion_mnist
import drrdn_mnist
import drrdn_tables
import parts
import verdicts


def cdvae(folder: Path) -> str:
    """CD-VAE's tables, as far as they have been measured; empty where nothing was."""
    script = cdvae_fashion_mnist
    measured = parts.there(folder, script.PREFIX, [*script.PARTS, *script.OTHERS])
    if not measured:
        return ""
    loaded = parts.load(folder, script.PREFIX, [k for k in script.PARTS if k in measured])
    reports = {k: verdicts.judged(r) for k, r in loaded.items()}
    others = {
        k: json.loads((folder / f"{script.PREFIX}_{k}.json").read_text("utf-8")) for k in script.OTHERS if k in measured
    }
    missing = ", ".join(f"`{k}`" for k in (*script.PARTS, *script.OTHERS) if k not in measured)
    lines = [
        "## CD-VAE on Fashion-MNIST",
        "",
        f"G is trained with gamma {script.DEFENCE:g}, the paper's for its defence, and its classifier on G(x). "
        "Grey-box attackers see a classifier of x (`fashion_mnist_cnn`) and nothing of CD-VAE, as in the paper's Table "
        f"6; networks without a purifier are attacked directly, in every column. What is called C&W there is PGD on "
        f"the margin. Linf eps {script.EPS:g}, L2 eps {script.EPS_L2:g}. "
        "JPEG has the paper's bound of 0.125 where no other is given.",
        "",
        *([cdvae_tables.table(reports), ""] if reports else []),
        *([*verdicts.unhappy(reports), ""] if reports else []),
        *(findings(folder, others) if others else []),
    ]
    about = {k: parts.options(v) for k, v in others.items()} | {k: parts.about(v) for k, v in reports.items()}
    lines += ["", *([f"Not measured: {missing}.", ""] if missing else [])]
    return "\n".join([*lines, f"`{json.dumps(about)}`", ""])


def findings(folder: Path, others: Mapping[str, Any]) -> list[str]:
    """Tables 1 to 3 and Figures 2 and 4, in lines.

    Args:
        folder: of the results.
        others: those results by part.
    """
    script, options = cdvae_fashion_mnist, next(iter(others.values()))["options"]
    lines = [
        f"Trained with Adam on {options['train']} images: every CD-VAE and every classifier {options['epochs']} "
        f"epochs, the games {options['game_epochs']} with {options['steps']} steps of their attack, one seed. The "
        "preset `fashion_mnist_cdvae` is another network, trained longer.",
        "",
        f"Where perturbations go and which part tells the class (gamma {script.UNDERSTANDING:g}, the paper's "
        "Tables 1 to 3; the Frechet distance is of features of `fashion_mnist_vgg`, beside the total variance of "
        "those of clean images; the paper's is of an Inception network's), and what gamma trades (Figure 4): "
        "`classification` is of R(x) by its own classifier, "
        "`reconstruction` is 1 - |x - G(x)| / |x|, `clean` and `defence` are of a classifier of G(x), `defence` "
        f"under PGD-100 on a classifier of x (Linf eps {script.EPS:g}), `detection` is of a Mahalanobis detector "
        "on R(x) at 5 % false alarms: the mean of the shares of clean images let pass and of attacked ones "
        "flagged, so that 50 % is chance; only this mean was kept, and its interval is the widest that it can have.",
        "",
        cdvae_tables.findings_table(folder, script.PREFIX),
        "",
    ]
    pictures = {k: f"{script.PREFIX}_{k}.png" for k in others}
    return [*lines, *(f"![{k}]({name})" for k, name in pictures.items() if (folder / name).is_file())]


def detection(name: str, title: str, folder: Path) -> str:
    path = folder / f"detection_{name}.json"
    if not path.is_file():
        return ""
    found = json.loads(path.read_text("utf-8"))
    script, right = detection_fashion_mnist, found["correct"].items()
    lines = [
        f"## Detection on x against detection on R(x), {title}",
        "",
        "KD, LID and Mahalanobis (MD) on the features of a classifier of x and of CD-VAE's classifier of R(x). `paper` "
        "keeps images that are right clean and noisy and wrong attacked, and wants no alarm on clean and noisy ones; "
        "`all` keeps all and wants none on clean ones. The attack goes for the detector's own classifier, as in the "
        f"paper, or for that of x: Linf eps {found['eps']['Linf']:.3g}, L2 eps {found['eps']['L2']:g}, "
        f"{detectors.STEPS} steps, C&W is PGD on the margin. TNR at 95 % TPR is the share of attacked "
        "images flagged at 5 % false alarms. "
        "Intervals are 95 % bootstrap over test images, of one training and one calibration. A cell has all images "
        "that its space keeps; `above` and `below` compare on those that both keep. `surely` is at 5 % for all cells "
        "of a block together (Holm), by a normal law as wide as the interval of the difference: the bootstrap's draws "
        "were not kept. Cells of one detector see the same images and are no independent witnesses.",
        "",
        "Right on clean images: " + ", ".join(f"the classifier of {k} {parts.interval(v)}" for k, v in right) + ".",
        "",
        script.table(found),
        "",
    ]
    return "\n".join([*lines, f"`{json.dumps(parts.options(found))}`", ""])


def drrdn(folder: Path) -> str:
    """DRRDN's tables; empty where one of them has not been measured, but for AutoAttack and the images before."""
    script = drrdn_mnist
    measured = parts.there(folder, drrdn_tables.PREFIX, [*script.PARTS, "hybrid"])
    missing = [k for k in (*script.PARTS, "hybrid") if k not in measured]
    if {*missing} - {"autoattack", "before"}:
        return ""
    loaded = parts.load(folder, drrdn_tables.PREFIX, [k for k in script.PARTS if k in measured])
    reports = {k: verdicts.judged(r) for k, r in loaded.items()}
    about, picture = reports["white"].provenance["data"], f"{drrdn_tables.PREFIX}_figure2.png"
    ablated = reports["ablation"].provenance["data"]
    otherwise = [f"`{k}` {ablated[k]}" for k in script.TRAINING if ablated[k] != about[k]]
    of_trades = f" (TRADES': {about['trades_rate']:g})" if about["trades_rate"] != about["rate"] else ""
    lines = [
        "## DRRDN on MNIST",
        "",
        f"Linf eps {script.EPS:g}; every network has the same layers at inference, images, epochs ({about['epochs']}), "
        f"and attack steps ({about['train_steps']}), one seed. The rate rises to {about['rate']:g}{of_trades} and "
        "falls to 0. `halves` is DRRDN's network with the loss of the class alone. CW is PGD on the margin. MNIST test "
        "images from number 1,000 on: settings were changed once after a run on those before and once after a run on "
        "these, by trials on training images. MNIST's images go by their writers, so that these are no random draw of "
        "all, which their intervals do not know. The paper, with 100 epochs and other networks, has clean / PGD-40 / "
        "PGD-100 of 99.45 / 96.58 / 95.32 for Madry, 99.50 / 96.95 / 95.73 for TRADES and 99.56 / 97.55 / 96.78 for "
        "DRRDN, and nothing under AutoAttack.",
        "",
        drrdn_tables.table(reports),
        "",
        *([f"The ablation is of an earlier run, in which: {', '.join(otherwise)}.", ""] if otherwise else []),
        *([f"Not measured: {', '.join(f'`{k}`' for k in missing)}.", ""] if missing else []),
        "Hybrids (Table 3): DRRDN's reconstructor puts z together from parts of natural images and of their "
        "adversaries (primed, PGD-40), and the Standard model's head, fine-tuned on natural ones, reads it. "
        "Below, as shares of right answers, what DRRDN's own heads and fresh ones read from its parts: c_i and "
        "`domain` natural or adversarial, of which 0.5 is chance, c_s and `class` the class.",
        "",
        drrdn_tables.hybrid_table(folder),
        "",
    ]
    if (folder / picture).is_file():
        lines += [
            "Figure 2 (t-SNE): z_s, z_i, and what the Standard model makes of the same images; adversaries are "
            "those made on DRRDN.",
            "",
            f"![Figure 2]({picture})",
            "",
        ]
    lines += [*verdicts.unhappy(reports), ""]
    return "\n".join([*lines, f"`{json.dumps({**parts.about(reports['white']), 'training': about})}`", ""])
