"""The evaluation: inspect each model, schedule, run, judge, report; each step is the file of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from art_ext.evaluation.backends import Attack
from art_ext.evaluation.executors import Executor, Here, given_executor
from art_ext.evaluation.executors.dispatch import dispatch
from art_ext.evaluation.executors.task import Task
from art_ext.evaluation.inspect import identities, inspect_models
from art_ext.evaluation.judge import judge
from art_ext.evaluation.numerics import full_precision, usable
from art_ext.evaluation.provenance import now
from art_ext.evaluation.report import Report, merge
from art_ext.evaluation.report.criteria import given_criteria
from art_ext.evaluation.run import Store
from art_ext.evaluation.run.manifest import call_digest, image_hashes, notes
from art_ext.evaluation.run.remote import at_hand
from art_ext.evaluation.schedule import schedule
from art_ext.evaluation.settings import Probe, Settings, check_call, facts, given_knowledge, given_several, renamed
from art_ext.evaluation.targets import Defended
from art_ext.evaluation.threat import Knowledge, Threat
from art_ext.evaluation.work import Asked, Work, finished, read_back
from art_ext.nn.modes import all_seeded, evaluating, trainable

KNOWLEDGE = (Knowledge.BLIND, Knowledge.BPDA, Knowledge.FULL)
READ_BACK = "read back, nothing was run"


def evaluate(  # noqa: PLR0913  the keywords are the vocabulary of an evaluation, and every one has a default
    models: Sequence[Defended],
    attacks: Sequence[Attack],
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    knowledge: Sequence[Knowledge] = KNOWLEDGE,
    eot_samples: int = 20,
    average: str = "logits",
    repeats: int = 5,
    seed: int = 0,
    batch_size: int = 256,
    survivors_only: bool = False,
    cross: bool = False,
    all_steps: bool = False,
    crafting: str = "float32",
    compile: bool = False,
    probe: Probe | None = Probe(),  # noqa: B008  frozen
    folder: Path | str | None = None,
    shard: tuple[int, int] = (0, 1),
    data: Mapping[str, Any] | None = None,
    suite: str = "",
    require: Sequence[str] = (),
    progress: bool = True,
    executor: Executor | str | int | None = None,
    draws: int | None = None,
    redraws: int | None = None,
) -> Report:
    """Attacks every model with every attack under every knowledge, and reports accuracies and checks of them.

    An undefended model is attacked once; a model without a surrogate is not attacked by transfer; the native attacks
    that follow any gradient alone follow a method's adaptive ones. Randomised models are recognised; attackers who see
    the defence average over EOT samples, and its answers are given several times. Modes, `requires_grad`, gradients,
    ambient random state and x are left as they were. What an attack or a model raises refuses that row alone.

    Args:
        models: the first undefended one is the baseline of the checks.
        attacks: see `Attack`.
        x: images (N, C, H, W) in [0, 1], float32.
        y: class indices (N,).
        threat: norm and radius.
        knowledge: of the attacker.
        eot_samples: of EOT against randomised models, where an attack does not say its own. All samples of a block are
            in memory at once when logits are averaged.
        average: what EOT averages: "logits" for every library, "gradients" of the samples' own losses for native
            attacks, ART, and what torchattacks and AutoAttack's "rand" have for it.
        repeats: answers of a randomised model to each final example.
        seed: of attacks and answers.
        batch_size: the most images of one pass. It changes nothing but rounding: attacks get blocks of 32 images, whose
            randomness is their own; below 32 the passes of deterministic models are cut.
        survivors_only: attack only the images that no earlier attack of the same knowledge broke in every repeat; rows
            then say what is left after them and all before.
        cross: try the examples made against each model (undefended or full) on every other one.
        all_steps: native attacks spend all their steps on images that they have broken, too, so that the examples are
            as strong as the attack makes them. Unless given, an image leaves an attack that sees the defence once it is
            broken (of a randomised model: once 20 passes in a row misclassify it); blind and transfer attacks, and all
            attacks with `cross`, run to their end. AutoAttack, FAB-T and Square always stop at what breaks an image.
        crafting: "bfloat16" lets native attacks take their gradients in bfloat16 where a job has more than 64 images;
            an image leaves only when float32 confirms it, and answers are float32's. The first 64 images are attacked
            in float32, too, and so is every image of a row where bfloat16 surely leaves more of them.
        compile: `torch.compile` the passes of classifiers and purifiers, batches padded to a few sizes, each of which
            costs seconds to minutes once a process. What torch cannot compile, or what is not 1.1 times as fast,
            passes as it is; the report says of which rows nothing was compiled. Values change by rounding, draws of
            randomised models too. Answers are given by passes that are not compiled.
        probe: what the sweeps behind the checks may cost; None for no sweeps.
        folder: keeps every block, the report and all examples; an interrupted evaluation goes on where it was, one that
            has ended is read back, and one of more images (x that begins with the same, or an attack's `images`) makes
            only what is not there yet. Several processes may work in one folder. Models are compared by everything that
            they are made of, and by their answers. A str such as s3://bucket/name is an fsspec address:
            the folder is worked in here, and kept there (see `run.remote`).
        shard: (i, n) takes every n-th block from block i on; `merged` makes one report of all n.
        data: facts about the data set for the report (name, source, order), as JSON values; what grows with x does
            not belong there.
        suite: name of the ready-made suite that the attacks are of, for the report.
        require: what the defence has to reach, such as "worst_case >= 0.40" (see `report.criteria`); a folder keeps
            those that it was begun with.
        progress: show a bar with the time left.
        executor: who makes the blocks: None for this process, a number for so many processes of this machine,
            "torchrun" for its ranks, "ray" or "ray://HOST:PORT" for actors on a cluster, "slurm" for array jobs, or an
            `executors.Executor`. It changes no result: with as many threads each, every byte is the same.
        draws: old spelling of `eot_samples`.
        redraws: old spelling of `repeats`.

    Raises:
        TypeError: images, labels, models or settings of the wrong type, a model that gives no logits, or with workers
            a model that cannot be pickled.
        ValueError: no images, images out of range, labels that do not fit, two attacks of one title, an impossible
            setting, or a folder with another evaluation.
        ImportError: an attack's library is not installed.
    """
    eot_samples = renamed("draws", draws, "eot_samples", eot_samples)
    repeats = renamed("redraws", redraws, "repeats", repeats)
    known = given_knowledge(knowledge)
    settings = Settings(
        known,
        eot_samples,
        average,
        repeats,
        seed,
        batch_size,
        survivors_only,
        cross,
        probe,
        all_steps,
        crafting,
        compile,
    )
    models, attacks = given_several(models, "models"), given_several(attacks, "attacks")
    shard = check_call(models, attacks, x, y, settings, threat, shard)
    said, required, chosen = facts(data), given_criteria(require), given_executor(executor)
    here, remarks = usable(settings.crafting, x.device)
    networks = [network for model in models for network in model.parts()]
    parameters = [p for network in networks for p in network.parameters()]
    with ExitStack() as stack:
        for mode in (full_precision(), evaluating(*networks), trainable((), parameters), all_seeded(settings.seed)):
            stack.enter_context(mode)
        # Inside: copies that are made in the caller's inference mode would have no gradient.
        images, labels = x.detach().clone(), y.detach().clone()
        asked = Asked(models, attacks, images, labels, threat, settings, replace(settings, crafting=here), shard, said,
                      required, suite)  # fmt: skip
        place = stack.enter_context(chosen.folder(stack.enter_context(at_hand(folder))))
        return _evaluated(asked, chosen, Store(place), remarks, progress)


def merged(reports: Iterable[Report]) -> Report:
    """The report of a whole evaluation from those of its shards.

    Raises:
        ValueError: not one report of every shard of the same evaluation.
    """
    whole = merge(list(reports))
    return whole if whole.checks else replace(whole, checks=judge(whole))


def _evaluated(asked: Asked, chosen: Executor, store: Store, remarks: Sequence[str], progress: bool) -> Report:
    """Inspects, schedules, claims the folder, runs and judges, unless the folder holds the report already."""
    started = now()
    models, attacks, x = asked.models, asked.attacks, asked.x
    who = {m.name: identities(m) for m in models}  # before a first pass may change what is inside
    sent = chosen.packed(models, attacks)
    found = inspect_models(models, who, x, asked.y, asked.threat, asked.settings.batch_size)
    planned = schedule(models, attacks, asked.threat, tuple(x.shape[1:]), len(x), asked.made, found)
    for job in (*planned.jobs, *planned.probes):
        job.stated()  # what a library has no form of is refused before anything is kept
    call = asked.manifest(who, found)
    remarks = [*remarks, *notes(store.known(), call)]
    chosen.before_claim()
    store.claim(call, lambda n: image_hashes(x[:n], asked.y[:n]))
    chosen.claimed()
    there = read_back(store, call_digest(call))
    if there is not None:
        return replace(there, notes=(*there.notes, READ_BACK))
    work = Work(asked, store, found, who, planned)
    if chosen.follows:
        return Report.from_json(chosen.follow(work.jobs, work.runner))
    folder = Path(store.folder or "").resolve()
    task = Task(sent, asked.threat, asked.settings, asked.made, asked.shard, found, call, folder, load=chosen.load)
    remarks += dispatch(chosen, task, work.jobs, work.runner, progress)
    report = finished(work.report(call, progress and isinstance(chosen, Here), started, remarks), work)
    chosen.finished(report.to_json)
    return report
