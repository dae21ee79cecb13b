"""art-ext evaluate: a user's classifier, with and without a purifier, under attack."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli import options
from art_ext.cli.attacks import attack_of
from art_ext.cli.config import config_file, save
from art_ext.cli.errors import CHECK_FAILED, NOT_MET, Debug, explained, suggestion
from art_ext.cli.terminal import say, warn

if TYPE_CHECKING:
    import torch

    from art_ext.data import Images
    from art_ext.evaluation import Attack, Defended, Probe, Report, Suite, Threat


def evaluate(  # noqa: PLR0913, PLR0917  each is an option
    ctx: typer.Context,
    classifier: options.Classifier,
    data: options.Data,
    out: Annotated[Path, typer.Option(help="Folder of this evaluation; run again, it goes on where it was.")],
    config: Annotated[
        Path | None,
        typer.Argument(callback=config_file, is_eager=True, help="TOML of options, as --save-config writes it."),
    ] = None,
    purifier: Annotated[
        list[str] | None,
        typer.Option(
            help="Preset, pattern of presets (fashion_mnist_*), folder of art-ext train, or file.py:name (images to "
            "images); repeat it to compare several."
        ),
    ] = None,
    method: options.Method = None,
    surrogate: Annotated[
        str | None, typer.Option(help="Separately trained classifier for transfer attacks, as --classifier.")
    ] = None,
    robust: Annotated[
        str | None,
        typer.Option(
            help="Adversarially trained baseline of the same size, as --classifier; the same words again where the "
            "classifier itself was trained so."
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="Smoke (seconds, claims nothing), standard, or full (what a claim needs).", show_default="smoke"
        ),
    ] = None,
    norm: Annotated[str, typer.Option(help="Of the perturbation: Linf, L2 or L1.")] = "Linf",
    eps: Annotated[str, typer.Option(help="Radius for images in [0, 1]; a fraction or a decimal.")] = "8/255",
    images: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many images, the classes as evenly as possible.")
    ] = None,
    knowledge: Annotated[
        list[str] | None,
        typer.Option(help="transfer, blind, bpda, full or adaptive; repeat it. Default: the suite's, all of them."),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            help="library:name or library:name:key=value,key=value (native:PGD:steps=40, art:Square:images=64), or "
            "file.py:function, (module, x, y, threat) to x_adv; repeat it. Replaces the suite's attacks. art-ext list "
            "attacks names them."
        ),
    ] = None,
    eot_samples: Annotated[
        int | None, typer.Option(min=1, help="Draws an EOT step averages, on randomised models. Default: the suite's.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Answers of a randomised model to each example. Default: the suite's.")
    ] = None,
    seed: options.Seed = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images attacked at once.")] = 256,
    crafting: Annotated[
        str, typer.Option(help="Gradients of native attacks: float32, or bfloat16, checked on the first 64 images.")
    ] = "float32",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile passes with torch.compile where that pays: for long evaluations.")
    ] = False,
    probe: Annotated[
        str | None,
        typer.Option(
            help="images,steps of the sweeps behind the checks, such as 64,20, or none: faster, without these checks. "
            "Default: the suite's."
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n, i from 0: every n-th batch alone, for n machines; art-ext report merges.")
    ] = None,
    workers: options.Workers = None,
    executor: options.Executor = None,
    slurm: options.Slurm = None,
    keys: options.Keys = "x,y",
    size: options.Size = None,
    channels: options.Channels = None,
    mean: options.Mean = None,
    std: options.Std = None,
    device: options.Device = "auto",
    no_purifier_baseline: Annotated[
        bool, typer.Option("--no-purifier-baseline", help="Leave out the undefended classifier, and what it is for.")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(
            help='What the defence has to reach, on the interval\'s lower end: "worst_case >= 0.40", "clean >= 90 %".'
        ),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(help="TOML of texts for the head of the report: system, responsible, purpose, limits."),
    ] = None,
    export: options.Export = None,
    logger: options.Logger = None,
    save_config: Annotated[
        Path | None, typer.Option(help="Write the options of this call to a TOML file, and go on.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where a check failed.")] = False,
    preset: Annotated[str | None, typer.Option(hidden=True)] = None,
    draws: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    redraws: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    debug: Debug = False,
) -> None:
    """Attack a classifier with and without a purifier, check the attacks, and write a report.

    The folder gets report.json, report.md, report.html and the adversarial examples. A killed run goes on with the same
    command. Exit codes: 0 done, 1 it could not be done, 2 wrong call, 3 a check failed (--strict alone), 4 a
    criterion of --require is not met, 130 after Ctrl-C, 143 after SIGTERM.
    """
    with explained(debug, resumes=True) as users:
        from dataclasses import replace

        from art_ext.cli.evaluated import models_of, warn_of_other_trainings
        from art_ext.cli.images import load_images
        from art_ext.cli.workers import Loaded, executor_of, is_follower
        from art_ext.evaluation import Threat
        from art_ext.evaluation.report.criteria import given_criteria, met
        from art_ext.evaluation.report.exports import known_exports

        threat, part = _threat(Threat, norm, eps), _shard(shard)
        criteria, texts = given_criteria(require or ()), options.texts(about)
        told = known_exports(options.names(export)), options.logger(logger)
        save(ctx, save_config)
        where = options.device_of(device)
        found = load_images(data, split="test", keys=keys, size=options.height_width(size), channels=channels)
        found, facts = _chosen(found, data, images)
        standard = {"mean": options.numbers(mean, "--mean"), "std": options.numbers(std, "--std")}
        normal, facts = standard | {"device": where}, facts | {k: v for k, v in standard.items() if v is not None}
        specs = {"classifier": classifier, "surrogate": surrogate, "robust": robust}
        numbers = {"eot_samples": _renamed(eot_samples, draws, "eot-samples", "draws"),
                   "repeats": _renamed(repeats, redraws, "repeats", "redraws")}  # fmt: skip
        name = _renamed(suite, preset, "suite", "preset") or "smoke"
        few, bare = type(found)(found.x[:3], found.y[:3], found.classes), no_purifier_baseline
        load = Loaded(specs, purifier or (), method, few, standard, bare, name, threat, attack)
        by = executor_of(workers, executor, slurm, load)
        models, classes = models_of(specs, purifier or (), method, found, normal, bare, users)
        warn_of_other_trainings(purifier or (), models, found, normal)
        chosen = suite_of(name, threat, classes, found.x.shape[1], attack)
        settings = chosen.options | _settings(knowledge, surrogate, numbers) | _probe(probe)
        settings |= {"seed": seed, "batch_size": batch_size, "shard": part, "data": facts, "crafting": crafting}
        settings |= {"compile": compile, "threat": threat, "folder": out, "require": criteria, "executor": by}
        report = replace(_run(models, chosen.attacks, found, where, settings), about=texts)
        if executor == "torchrun" and is_follower():
            return
        _finish(report, out, part, *told)
    if strict and any(v.verdict == "fail" for v in report.checks):
        say("error: a check failed: the numbers are not to be believed before it is explained", err=True)
        raise typer.Exit(CHECK_FAILED)
    if part == (0, 1) and not met(report):
        say("error: a criterion of --require is not met, or not shown by so few images", err=True)
        raise typer.Exit(NOT_MET)


def _renamed(now: Any, before: Any, name: str, old: str) -> Any:
    """The value of an option that has an old name too.

    Raises:
        ValueError: both were given.
    """
    if before is None:
        return now
    if now is not None:
        raise ValueError(f"expected --{name} once, got --{old}, its old name, too")
    warn(f"--{old} is called --{name} now")
    return before


def _run(
    models: Sequence[Defended], attacks: Sequence[Attack], found: Images, where: torch.device, settings: dict[str, Any]
) -> Report:
    from art_ext import evaluation

    folder: Path = settings["folder"]
    if (folder / "report.json").exists() and not (folder / "evaluation.json").exists():
        raise ValueError(f"expected a new folder or one of this evaluation, got {folder}, which holds another report")
    x, y = found.x.to(where), found.y.to(where)
    return evaluation.evaluate(models, attacks, x, y, progress=sys.stderr.isatty(), **settings)


def _finish(report: Report, out: Path, part: tuple[int, int], exports: Sequence[str], logger: str | None) -> None:
    from art_ext.cli.display import show, write

    if part[1] > 1:
        say(f"shard {part[0]}/{part[1]} written to {out / 'report.json'}")
        say(f"with the other shards in folders of their own, merge all {part[1]}: art-ext report "
                   "FOLDER_OF_EACH/report.json ... --out FOLDER")  # fmt: skip
        return
    write(report, out, exports, logger)
    show(report)
    say(f"written to {out}: report.json, report.md, report.html, x_adv.safetensors, manifest.json")


def _threat(kind: type[Threat], norm: str, eps: str) -> Threat:
    threat = kind(norm, options.number(eps, "--eps"), eps.strip())
    if norm == "Linf" and threat.eps > 1:  # before a model is loaded
        raise ValueError(f"expected --eps for images in [0, 1], such as 8/255, got {eps}")
    return threat


def _probe(text: str | None) -> dict[str, Probe | None]:
    """What --probe replaces of the suite's settings."""
    from art_ext.evaluation import Probe

    if text is None:
        return {}
    found = re.fullmatch(r"(\d+),(\d+)", text.replace(" ", ""))
    if text != "none" and not found:
        raise ValueError(f"expected --probe as images,steps, such as 64,20, or none; got {text!r}")
    return {"probe": Probe(int(found[1]), int(found[2])) if found else None}


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not int(found[1]) < int(found[2]):
        raise ValueError(f"expected --shard as i/n with i from 0 to n - 1, got {text!r}")
    return int(found[1]), int(found[2])


def _chosen(found: Images, data: Path, images: int | None) -> tuple[Images, dict[str, Any]]:
    """The first images, and what the report says about them."""
    from art_ext.data import Images, order_sha256

    if images is not None and images > len(found.x):
        raise ValueError(f"expected --images of at most {len(found.x)}, what {data} holds, got {images}")
    assert found.order is not None
    chosen = Images(found.x[:images], found.y[:images], found.classes, found.order[:images])
    # The order of all images: it is the same for every --images.
    facts = {"order": "balanced by class", "order_sha256": order_sha256(found.order)}
    return chosen, {"name": data.name, "images": f"the first of {len(found.x)}", **facts}


def suite_of(name: str, threat: Threat, classes: int, channels: int, attack: Sequence[str] | None) -> Suite:
    """The attacks and settings of --suite and --attack.

    Raises:
        ValueError: another suite, or an attack that there is not.
    """
    from dataclasses import replace

    from art_ext.evaluation import SUITES, suite
    from art_ext.evaluation.suites import suite_names

    if name not in SUITES and name not in (names := suite_names()):
        raise ValueError(f"expected --suite {', '.join(names)}; got {name!r}{suggestion(name, names)}")
    made = suite(name, threat, classes=classes, channels=channels)
    if not attack:
        return made
    return replace(made, attacks=tuple(map(attack_of, attack)), options=made.options | {"suite": ""})


def _settings(knowledge: Sequence[str] | None, surrogate: str | None, numbers: dict[str, int | None]) -> dict[str, Any]:
    """What replaces the suite's settings."""
    from art_ext.evaluation import Knowledge

    found: dict[str, Any] = {k: v for k, v in numbers.items() if v is not None}
    if knowledge:
        if "own" in knowledge:
            warn("--knowledge own is called adaptive now")
            knowledge = ["adaptive" if k == "own" else k for k in knowledge]
        able = [k.value for k in Knowledge if k is not Knowledge.UNDEFENDED]
        for k in knowledge:
            if k not in able:
                raise ValueError(f"expected --knowledge out of {', '.join(able)}; got {k!r}{suggestion(k, able)}")
        if Knowledge.TRANSFER.value in knowledge and surrogate is None:
            raise ValueError("expected --surrogate for transfer attacks, got none")
        found["knowledge"] = tuple(Knowledge(k) for k in dict.fromkeys(knowledge))
    return found
