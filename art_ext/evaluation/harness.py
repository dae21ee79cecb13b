"""Attacks on models under every knowledge asked for, each result checked, seeded, and kept per example."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import art_ext
from art_ext.attacks import AVERAGES
from art_ext.evaluation import checks, verdicts
from art_ext.evaluation.backends import Attack
from art_ext.evaluation.bench import Bench
from art_ext.evaluation.jobs import Job, Probe, Settings, main_jobs, plain, probe_jobs
from art_ext.evaluation.models import Defended
from art_ext.evaluation.report import Cell, Report, Verdict, merge
from art_ext.evaluation.store import Store
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.images import check_images
from art_ext.nn.hashing import sha256
from art_ext.nn.modes import evaluating, seeded, trainable

BAR = "{l_bar}{bar}| {elapsed} gone, {remaining} left{postfix}"
KNOWLEDGE = (Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL)


def evaluate(  # noqa: PLR0913  the keywords are the vocabulary of an evaluation, and every one has a default
    models: Sequence[Defended],
    attacks: Sequence[Attack],
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    knowledge: Sequence[Knowledge] = KNOWLEDGE,
    draws: int = 20,
    average: str = "logits",
    redraws: int = 5,
    seed: int = 0,
    batch_size: int = 256,
    survivors_only: bool = False,
    cross: bool = False,
    probe: Probe | None = Probe(),  # noqa: B008  frozen
    folder: Path | str | None = None,
    shard: tuple[int, int] = (0, 1),
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Report:
    """Attacks every model with every attack under every knowledge, and says what is left and whether to believe it.

    An undefended model is attacked once; a model without a surrogate is not attacked by transfer; the native attacks
    that follow any gradient alone follow a method's own. Randomised models are recognised; attackers who see the
    defence average over draws (EOT), and its answers are drawn several times. Modes, `requires_grad`, gradients and
    ambient random state are left as they were.

    Args:
        models: the first undefended one is the baseline of the checks.
        attacks: see `Attack`.
        x: images (N, C, H, W) in [0, 1].
        y: class indices (N,).
        threat: norm and radius.
        knowledge: of the attacker.
        draws: of EOT against randomised models, where an attack does not say its own. All draws of a batch are in
            memory at once when logits are averaged; a smaller `batch_size` needs less.
        average: what EOT averages: "logits" for every library, "gradients" of the draws' own losses for native attacks,
            ART, and what torchattacks and AutoAttack's "rand" have for it.
        redraws: passes over the final examples of a randomised model.
        seed: of attacks and redraws.
        batch_size: images attacked at once.
        survivors_only: attack only the images that no earlier attack of the same knowledge broke in every redraw; rows
            then say what is left after them and all before.
        cross: try the examples made against each model (undefended or full) on every other one.
        probe: what the sweeps behind the checks may cost; None for no sweeps.
        folder: keeps every batch, the report and all examples; an interrupted evaluation goes on where it was, one that
            has ended is read back, and one of more images (x that begins with the same, or an attack's `images`) makes
            only what is not there yet. Of models their weights are compared, of functions nothing.
        shard: (i, n) takes every n-th batch from batch i on; `merged` makes one report of all n.
        data: facts about the data set for the report (name, source, order), as JSON values; what grows with x does
            not belong there.
        progress: show a bar with the time left.

    Raises:
        TypeError: images or labels of the wrong type.
        ValueError: no images, images out of range, labels that do not fit, two attacks of one title, an impossible
            setting, or a folder with another evaluation.
        ImportError: an attack's library is not installed.
    """
    settings = Settings(
        tuple(knowledge), draws, average, redraws, seed, batch_size, survivors_only, cross, probe
    )  # fmt: skip
    _check(models, attacks, x, y, settings, shard)
    networks = [network for model in models for network in model.parts()]
    parameters = [p for network in networks for p in network.parameters()]
    with evaluating(*networks), trainable((), parameters), seeded(seed):
        provenance = _provenance(models, attacks, x, y, settings, threat, data or {})
        store = Store(folder, {**provenance, "shard": list(shard)}, lambda n: _hashes(x[:n], y[:n]))
        done = store.finished()
        if done is not None:
            return Report.from_json(done)
        report = _run(models, attacks, x, y, threat, settings, shard, store, provenance, progress)
        if shard[1] == 1:
            report = replace(report, checks=(*report.checks, *verdicts.judge(report)))
    return report if folder is None else _finish(report, store)


def merged(reports: Iterable[Report]) -> Report:
    """The report of a whole evaluation from those of its shards.

    Raises:
        ValueError: not one report of every shard of the same evaluation.
    """
    return merge(list(reports), verdicts.judge)


def _finish(report: Report, store: Store) -> Report:
    store.finish(report.to_json())
    return Report.from_json(report.to_json())


def _run(
    models: Sequence[Defended], attacks: Sequence[Attack], x: Tensor, y: Tensor, threat: Threat, settings: Settings,
    shard: tuple[int, int], store: Store, provenance: Mapping[str, Any], progress: bool,
) -> Report:  # fmt: skip
    random: Mapping[str, bool] = provenance["randomised"]
    bench = Bench(models, x, y, settings, shard, store, random)
    looks: list[Verdict] = []
    for model in models if shard[0] == 0 else ():
        looks += checks.look(model, x, y, threat, random[model.name])
        if settings.probe is not None and settings.probe.unit_tests:
            some, steps = x[: settings.probe.unit_tests], settings.probe.steps
            looks.append(checks.attack_unit_test(model, some, threat, steps, random[model.name]))
    dead = {v.model for v in looks if checks.NO_GRADIENT in v.detail} if shard[0] == 0 else _dead(models, x, y, threat)
    clean = [Job(m, None, None, threat, settings.seed, len(x)) for m in models]
    jobs = main_jobs(models, attacks, threat, len(x), settings, random)
    probes = probe_jobs(models, threat, tuple(x.shape[1:]), len(x), settings, random)
    found: dict[int, Cell] = {}
    expected = _expected([*clean, *jobs, *probes], x)
    with tqdm(total=sum(expected), desc="attacks", disable=not progress, bar_format=BAR) as bar:
        for number, (job, weight) in enumerate(zip([*clean, *jobs, *probes], expected, strict=True)):
            if job.attack is not None:
                bar.set_postfix_str(f"{job.model.name}: {job.attack.titled(job.draws)}", refresh=False)
            found[number] = _refused(job, bench) if _hopeless(job, dead) else bench.run(
                job, lambda share, weight=weight: bar.update(weight * share)  # type: ignore[misc]
            )  # fmt: skip
    cells = [found[i] for i in range(len(clean) + len(jobs))]
    sweeps = tuple(found[i] for i in range(len(cells), len(found)))
    usable = [j for i, j in enumerate(jobs, start=len(clean)) if not found[i].refused]
    cells += [bench.on_another(j, m) for j in usable if _crosses(j, settings) for m in models if m is not j.model]
    # A shard's report numbers every batch, so it may hold cells without images: they keep their place for the merge.
    if store.folder is not None:
        store.titled = {f"{j.model.name} | {j.attack.titled(j.draws)} | {j.knowledge.value}": bench.kept(j)
                        for j in usable if j.attack is not None and j.knowledge is not None}  # fmt: skip
    whole = {**provenance, "shard": list(shard), "peak_memory_bytes": _peak_memory(x.device)}
    return Report(
        asdict(threat), tuple(cells), tuple(looks), _not_tested(models, attacks, threat, settings), whole, sweeps
    )  # fmt: skip


def _expected(jobs: Sequence[Job], x: Tensor) -> list[float]:
    """Roughly the seconds that each job takes: its passes, times a measured one."""
    speeds: dict[int, float] = {}
    found = []
    for job in jobs:
        blind = job.knowledge in (Knowledge.BLIND, Knowledge.TRANSFER)
        network = job.model.classifier if blind else job.model.module
        if id(network) not in speeds:
            with torch.no_grad():
                start = time.perf_counter()
                network(x[:16])
            speeds[id(network)] = (time.perf_counter() - start) / len(x[:16])
        found.append(job.passes() * speeds[id(network)])
    return found


def _dead(models: Sequence[Defended], x: Tensor, y: Tensor, threat: Threat) -> set[str]:
    """Models that no gradient passes: the same in every shard."""
    n = checks.LOOKED_AT
    found = [checks.gradient_reaches(m.name, m.module, x[:n], y[:n], threat) for m in models]
    return {v.model for v in found if checks.NO_GRADIENT in v.detail}


def _hopeless(job: Job, dead: set[str]) -> bool:
    """Whether the attack needs a gradient that is not there."""
    exact = job.knowledge in (Knowledge.FULL, Knowledge.OWN, Knowledge.UNDEFENDED)
    return job.model.name in dead and exact and job.attack is not None and not job.attack.black_box


def _refused(job: Job, bench: Bench) -> Cell:
    return replace(bench.empty(job), refused=checks.NO_GRADIENT)


def _crosses(job: Job, settings: Settings) -> bool:
    assert job.attack is not None
    return settings.cross and job.knowledge in (Knowledge.UNDEFENDED, Knowledge.FULL) and job.attack.bound is None


def _not_tested(
    models: Sequence[Defended], attacks: Sequence[Attack], threat: Threat, settings: Settings
) -> tuple[str, ...]:
    asked = (*settings.knowledge, Knowledge.UNDEFENDED)
    lines = [f"{k.value} attacks: not asked for" for k in Knowledge if k not in asked]
    if Knowledge.TRANSFER in settings.knowledge:
        without = [m.name for m in models if m.purifier is not None and m.surrogate is None]
        lines += [f"transfer attacks on {name}: no surrogate" for name in without]
    backends = {a.backend for a in attacks}
    lines += [f"attacks of {b}: none asked for" for b in ("native", "art", "torchattacks", "autoattack")
              if b not in backends]  # fmt: skip
    if not any(a.black_box for a in attacks) and not any(a.name in ("standard", "plus") for a in attacks):
        lines.append("attacks that need no gradient (Square, decision-based): none asked for")
    if not any(a.bound for a in attacks):
        lines.append("spatial, colour and JPEG attacks: none asked for")
    if not any(a.targeted for a in attacks):
        lines.append("targeted attacks: none asked for, beyond those inside AutoAttack")
    lines.append(f"perturbations of another norm than {threat.norm}, or larger than {threat.eps:g} but for the sweep")
    if settings.probe is None:
        lines.append("whether more budget, steps, starts or draws would lower the numbers: the sweeps were left out")
    else:
        lines += ["the spread over seeds: fewer than three"] * (settings.probe.seeds < 3)
        lines += ["whether the attack finds examples that are known to be there"] * (not settings.probe.unit_tests)
    if not any(m.robust for m in models):
        lines.append("an adversarially trained network of the same size: none given")
    lines += [f"{a.title}: only the first {a.images} images" for a in attacks if a.images is not None]
    lines += [f"{a.title}: only {' and '.join(k.value for k in a.knowledge)}" for a in attacks if a.knowledge]
    return tuple(lines)


def _provenance(
    models: Sequence[Defended], attacks: Sequence[Attack], x: Tensor, y: Tensor, settings: Settings, threat: Threat,
    data: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Everything that decides the result, as JSON values; the same for an interrupted run and for every shard."""
    versions = {"art-ext": art_ext.__version__, "torch": torch.__version__, "numpy": np.__version__}
    for attack in attacks:
        versions |= attack.versions()
    n = checks.LOOKED_AT
    classes = _classes(models, x, y)
    stated = [_stated(a) for a in attacks]
    found = {
        "versions": versions,
        "git": _commit(),
        "python": platform.python_version(),
        "device": str(x.device) if x.device.type == "cpu" else torch.cuda.get_device_name(x.device),
        "threads": torch.get_num_threads(),
        "seed": settings.seed,
        "batch_size": settings.batch_size,
        "images": len(x),
        "shape": list(x.shape[1:]),
        "classes": classes,
        "threat": asdict(threat),
        "settings": settings.plain(),
        "randomised": {m.name: checks.randomised(m.module, x[:n], y[:n]) for m in models},
        "defended": [m.name for m in models if m.purifier is not None],
        "robust": [m.name for m in models if m.robust],
        **_hashes(x, y),
        "sha256_of_models": {m.name: _sha256_of(m.parts()) for m in models},
        "attacks": stated,
        "data": dict(data),
    }
    plain_found: dict[str, Any] = json.loads(json.dumps(found))
    return plain_found


def _stated(attack: Attack) -> dict[str, Any]:
    known = None if attack.knowledge is None else [k.value for k in attack.knowledge]
    bare = asdict(replace(attack, parameters={}, function=None) if attack.function is None else attack)
    return bare | {"function": None, "parameters": plain(attack.parameters), "knowledge": known}


def _classes(models: Sequence[Defended], x: Tensor, y: Tensor) -> int:
    with torch.no_grad():
        found = {m.name: tuple(m.module(x[:1]).shape) for m in models}
    classes = next(iter(found.values()))[-1]
    if set(found.values()) != {(1, classes)}:
        raise ValueError(f"expected models that give logits (N, K) of one K, got for one image {found}")
    if int(y.max()) >= classes:
        raise ValueError(f"expected labels below the {classes} classes of the models, got {int(y.max())}")
    return int(classes)


def _hashes(x: Tensor, y: Tensor) -> dict[str, str]:
    return {"sha256_of_images": sha256([x]), "sha256_of_labels": sha256([y])}


def _sha256_of(networks: Sequence[nn.Module]) -> str:
    return sha256(value for network in networks for value in network.state_dict().values())


def _commit() -> str | None:
    """The commit of the package's checkout, None for an installed package."""
    root = Path(art_ext.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _peak_memory(device: torch.device) -> int:
    """Bytes that the device, or on a CPU the process, held at most; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def _check(
    models: Sequence[Defended], attacks: Sequence[Attack], x: Tensor, y: Tensor, settings: Settings,
    shard: tuple[int, int],
) -> None:  # fmt: skip
    check_images(x)
    if x.dtype != torch.float32:  # ART and the others work in float32
        raise TypeError(f"expected float32 images, got {x.dtype}")
    _check_attacks(attacks, settings)
    if not models or not len(x):
        raise ValueError(f"expected at least one model and one image, got {len(models)} and {len(x)}")
    names = [m.name for m in models]
    if len(set(names)) != len(names):
        raise ValueError(f"expected models of different names, got {names}")
    if not isinstance(y, Tensor) or y.dtype != torch.int64:
        raise TypeError(f"expected labels as an int64 tensor, got {getattr(y, 'dtype', type(y).__name__)}")
    if y.shape != (len(x),) or int(y.min()) < 0:
        raise ValueError(f"expected {len(x)} class indices >= 0, got shape {tuple(y.shape)} and minimum {int(y.min())}")
    if min(settings.draws, settings.redraws, settings.batch_size) < 1 or settings.average not in AVERAGES:
        raise ValueError(
            f"expected draws, redraws and batch_size >= 1 and average one of {', '.join(AVERAGES)}, got {settings}"
        )
    index, shards = shard
    if not 0 <= index < shards:
        raise ValueError(f"expected a shard (i, n) with 0 <= i < n, got {shard}")
    if settings.survivors_only and settings.cross:
        raise ValueError("expected survivors_only or cross, got both: examples of a sequence are not one attack's")


def _check_attacks(attacks: Sequence[Attack], settings: Settings) -> None:
    titles = [a.title for a in attacks]
    if len(set(titles)) != len(titles):
        raise ValueError(f"expected attacks of different titles, got {titles}: give them a label")
    missing = {k.value for a in attacks for k in a.knowledge or ()} - {k.value for k in settings.knowledge}
    if missing:
        raise ValueError(
            f"expected the knowledge of every attack in that of the evaluation, got attacks under {sorted(missing)}"
        )
