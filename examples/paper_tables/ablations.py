"""What the ablation scripts share: training a variant, its answers, and tables of paired differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from art_ext import __version__
from art_ext.data import Images, fashion_mnist, shift_and_flip
from art_ext.evaluation import mean_interval, paired_difference
from art_ext.files import replacing
from art_ext.training import Batches, Checkpoint, Data, Objective, Scheduler, fit


def train(
    objective: Objective, name: str, *, images: int, epochs: int, seed: int, runs: Path, labels: bool,
    rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), data: Images | None = None,
) -> None:  # fmt: skip
    """Adam and a cosine, on the first training images that ship with the package or `data`; goes on where it was."""
    data = fashion_mnist("train", images) if data is None else data
    y = data.y if labels else None
    batches = Batches(data.x, y, batch_size=64, seed=seed, augment=shift_and_flip(2))
    optimizers = {player: torch.optim.Adam(p, lr=rate, betas=betas) for player, p in objective.players().items()}
    cosine = [torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs, rate / 50) for o in optimizers.values()]
    follow(
        objective, name, batches, optimizers, cosine, epochs=epochs, seed=seed, runs=runs,
        facts=[images, epochs, rate, betas],
    )  # fmt: skip


def follow(
    objective: Objective, name: str, batches: Data, optimizers: Mapping[str, torch.optim.Optimizer],
    schedulers: Sequence[Scheduler], *, epochs: int, seed: int, runs: Path, facts: Sequence[Any],
) -> None:  # fmt: skip
    """Trains with a progress bar, from a checkpoint that carries the settings in its name.

    Args:
        objective: its plain attributes are settings.
        name: of the variant.
        batches: to train on.
        optimizers: one a player.
        schedulers: stepped once an epoch.
        epochs: passes over the data.
        seed: of everything random in a step.
        runs: the checkpoints' folder.
        facts: the other settings, epochs among them, as JSON values.
    """
    # A run with other settings is another run: it must not take this one's weights for its own.
    settings = {k: v for k, v in vars(objective).items() if isinstance(v, (bool, int, float, str))}
    told = json.dumps([settings, *facts], sort_keys=True)
    stamp = hashlib.sha256(told.encode()).hexdigest()[:8]
    checkpoint = Checkpoint(runs / f"{name} {seed} {stamp}.pt", every=50)
    steps = fit(
        objective, batches, epochs=epochs, seed=seed, optimizers=optimizers, schedulers=schedulers,
        checkpoint=checkpoint,
    )  # fmt: skip
    for _ in tqdm(steps, desc=f"{name}, seed {seed}", total=epochs * len(batches), mininterval=10):
        pass


def answers(model: nn.Module, x: Tensor, y: Tensor) -> list[bool]:
    """Whether each image (N, C, H, W) is classified as y (N,)."""
    with torch.no_grad():
        right = [model(a).argmax(1) == b for a, b in zip(x.split(250), y.split(250), strict=True)]
    found: list[bool] = torch.cat(right).tolist()
    return found


def over_seeds(rows: Sequence[Mapping[str, Any]], variant: str, attack: str) -> list[float]:
    """Share of the seeds in which a variant classified each image correctly."""
    runs = [r["correct"][attack] for r in rows if r["variant"] == variant]
    return [sum(column) / len(column) for column in zip(*runs, strict=True)]


def table(rows: Sequence[Mapping[str, Any]], attacks: Mapping[str, str], compared: Sequence[str], full: str) -> str:
    """Accuracy of each variant under each attack, and paired differences to the full method, as Markdown.

    Args:
        rows: one a variant and seed, with `correct`: answers by attack.
        attacks: their titles by key.
        compared: keys of the attacks whose difference is shown.
        full: the variant that the others are compared with.
    """
    minus = [f"{attacks[a]} minus full" for a in compared]
    header = ["variant (differences: over images, for these networks)", *attacks.values(), *minus]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    whole = {a: over_seeds(rows, full, a) for a in compared}
    for name in dict.fromkeys(r["variant"] for r in rows):
        mean = {a: over_seeds(rows, name, a) for a in attacks}
        entries = [str(mean_interval(v)) for v in mean.values()]
        gaps = [paired_difference(mean[a], whole[a]) for a in compared if name != full]
        entries += [f"{100 * g.mean:+.1f} [{100 * g.low:+.1f}, {100 * g.high:+.1f}]" for g in gaps]
        entries += [""] * (len(minus) - len(gaps))
        lines.append("| " + " | ".join([name, *entries]) + " |")
    return "\n".join(lines)


def rows_so_far(path: Path, options: Mapping[str, Any], variants: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of an earlier run that a new one need not repeat: same options, whatever the variants and folders."""
    if not path.is_file():
        return []
    earlier = json.loads(path.read_text("utf-8"))
    free = ("variants", "seeds", "runs", "out")
    if any(earlier["options"].get(k) != v for k, v in options.items() if k not in free):
        return []
    return [row for row in earlier["rows"] if row["variant"] in variants and row["seed"] in options["seeds"]]


def stated(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options and versions for the JSON; folders tell of a machine, not of a measurement."""
    plain = {k: v for k, v in options.items() if not isinstance(v, Path)}
    versions = {"art-ext": __version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    return {"options": plain, "versions": versions}


def save(found: Mapping[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found), "utf-8")
