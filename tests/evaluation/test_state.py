"""Evaluations that are killed, resumed, split over machines, read back: always the same report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from art_ext.attacks import Gradient, ascent, cross_entropy
from art_ext.evaluation import Attack, Defended, Knowledge, Probe, Report, Threat, blocks, evaluate, merged, work
from art_ext.evaluation.run.store import EXAMPLES, REPORT
from art_ext.evaluation.seeding import block_seed
from art_ext.nn import seeded
from art_ext.purifiers import Purifier

from .conftest import Blur, Halves, Noise, Problem

ROOT = Path(__file__).parents[2]
THREAT = Threat("Linf", 0.2)
ATTACKS = [
    Attack("native", "PGD", {"steps": 4}),
    Attack("art", "PGD", {"steps": 3, "step_size": 0.1}, images=7),
    Attack("native", "PGD", {"steps": 3}, targeted="random"),
    Attack("native", "StAdv", {"steps": 2}, images=4),
]
OPTIONS = {
    "threat": THREAT, "repeats": 2, "eot_samples": 2, "probe": Probe(5, 2), "progress": False,
    "knowledge": [Knowledge.BLIND, Knowledge.FULL],
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three images, so that twelve are several."""
    monkeypatch.setattr(blocks, "BLOCK", 3)


def models(problem: Problem) -> list[Defended]:
    c = problem.classifier
    return [Defended("bare", c), Defended("blur", c, Blur()), Defended("noise", c, Noise())]


def run(problem: Problem, **options: object) -> Report:
    return evaluate(models(problem), ATTACKS, problem.x, problem.y, **(OPTIONS | options))


def test_a_folder_holds_report_and_examples_and_is_read_back(problem: Problem, tmp_path: Path) -> None:
    report = run(problem, folder=tmp_path)
    assert report.findings() == run(problem).findings()
    assert Report.load(tmp_path / REPORT) == report
    examples = load_file(tmp_path / EXAMPLES)
    title = "blur | native PGD-4 | full"
    assert examples[title].shape == problem.x.shape
    THREAT.refuse_cheats(problem.x, examples[title], "the file")
    right = models(problem)[1].module(examples[title]).argmax(1) == problem.y
    assert tuple(right.tolist()) == report.cell("blur", "native PGD-4", "full").correct[0]
    blind, bare = (report.cell(m, "native PGD-4", k) for m, k in (("blur", "blind"), ("bare", "undefended")))
    assert blind.seconds == 0 < bare.seconds  # the same examples, paid for once
    attacked = [c for c in report.cells if c.attack != "clean"]
    assert len(examples) == len(attacked)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answers", "evaluation.json", "pieces", REPORT, EXAMPLES]
    before = (tmp_path / REPORT).stat().st_mtime_ns
    again = run(problem, folder=tmp_path)
    assert again == replace(report, notes=("read back, nothing was run",))
    assert (tmp_path / REPORT).stat().st_mtime_ns == before


@pytest.mark.parametrize("stop_after", [1, 17])
def test_an_interrupted_evaluation_goes_on_and_makes_no_batch_twice(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    whole = run(problem)
    calls: list[str] = []
    honest = Attack.__call__

    def counted(self: Attack, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, **options: Any) -> Tensor:
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(self.title)
        return honest(self, module, x, y, threat, **options)

    monkeypatch.setattr(Attack, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        run(problem, folder=tmp_path)
    first = list(calls)
    assert len(list(tmp_path.glob("pieces/*"))) == stop_after
    calls, stop_after = [], -1
    assert run(problem, folder=tmp_path).findings() == whole.findings()
    unbroken = len(first) + len(calls)
    calls = []
    run(problem, folder=tmp_path / "other")
    assert unbroken == len(calls)


@pytest.mark.parametrize("survivors_only", [False, True])
def test_more_images_cost_only_themselves(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors_only: bool
) -> None:
    """Seven images, then all; the second attack sees fewer first and more then. Batches of four."""
    seen: list[int] = []
    honest = Attack.__call__

    def counted(self: Attack, module: nn.Module, x: Tensor, y: Tensor, threat: Threat, **options: Any) -> Tensor:
        seen.append(len(x))
        return honest(self, module, x, y, threat, **options)

    monkeypatch.setattr(Attack, "__call__", counted)

    def of(n: int, second: int, folder: Path | None) -> Report:
        seen.clear()
        attacks = [Attack("native", "FGSM"), Attack("native", "PGD", {"steps": 4}, images=second)]
        options = {"probe": None, "survivors_only": survivors_only, "folder": folder}
        return evaluate(models(problem), attacks, problem.x[:n], problem.y[:n], **(OPTIONS | options))  # type: ignore[arg-type]

    n = len(problem.x)
    assert n == 12
    alone = of(n, 10, None).findings()
    whole = list(seen)
    for count, second in ((7, 4), (7, 7), (n, 10)):
        found = of(count, second, tmp_path)
        assert Report.load(tmp_path / REPORT) == found
        assert found.provenance["images"] == count
    assert found.findings() == alone
    assert 0 < sum(seen) < sum(whole)
    examples = load_file(tmp_path / EXAMPLES)
    for cell in (c for c in found.cells if c.attack != "clean" and c.model == "blur"):
        x_adv = examples[f"blur | {cell.attack} | {cell.knowledge}"]
        right = models(problem)[1].module(x_adv).argmax(1) == problem.y[: len(x_adv)]
        right[list(cell.skipped)] = False  # an earlier attack's, and not attacked again
        assert right.tolist() == list(cell.correct[0])
    of(n, 10, tmp_path)
    assert seen == []
    for fewer in ((7, 10), (n, 7)):
        with pytest.raises(ValueError, match=r"of other (attacks|images)"):
            of(*fewer, tmp_path)


def test_other_images_are_not_more_images(problem: Problem, tmp_path: Path) -> None:
    few = Problem(problem.x[:6], problem.y[:6], problem.classifier)
    run(few, folder=tmp_path)
    for other in (
        Problem(problem.x.flip(0), problem.y, few.classifier),
        Problem(problem.x, 1 - problem.y, few.classifier),
    ):
        with pytest.raises(ValueError, match="sha256_of_"):
            run(other, folder=tmp_path)
    run(problem, folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 1}, r"settings \(seed 0 there, 1 now\)"),
        ({"threat": Threat("Linf", 0.1)}, r"threat \(eps 0\.\d+ there, 0\.1 now"),
        ({"repeats": 3}, r"settings \(repeats \d there, 3 now\)"),
    ],
)
def test_a_folder_of_another_evaluation_is_refused(
    problem: Problem, tmp_path: Path, change: dict[str, object], what: str
) -> None:
    run(problem, folder=tmp_path)
    kept = (tmp_path / REPORT).read_bytes()
    with pytest.raises(ValueError, match=f"got one of other .*{what}"):
        run(problem, folder=tmp_path, **change)
    other = Problem(problem.x * 0.9, problem.y, problem.classifier)
    with pytest.raises(ValueError, match="sha256_of_images"):
        run(other, folder=tmp_path)
    with torch.no_grad():
        weights = Problem(problem.x, problem.y, Halves(19.0))
    with pytest.raises(ValueError, match=r"model bare \(classifier\)"):
        run(weights, folder=tmp_path)
    assert (tmp_path / REPORT).read_bytes() == kept
    (tmp_path / "evaluation.json").unlink()
    with pytest.raises(ValueError, match="other files"):
        run(problem, folder=tmp_path)


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_merge_to_the_same_report(problem: Problem, shards: int) -> None:
    parts = [run(problem, shard=(i, shards), cross=True) for i in range(shards)]
    assert merged(reversed(parts)).findings() == run(problem, cross=True).findings()


def test_shards_come_back_from_their_files(problem: Problem, tmp_path: Path) -> None:
    for i in range(2):
        run(problem, shard=(i, 2), folder=tmp_path / str(i))
    parts = [Report.load(tmp_path / str(i) / REPORT) for i in range(2)]
    assert merged(parts).findings() == run(problem).findings()


def test_shards_that_do_not_belong_together_are_refused(problem: Problem) -> None:
    first, second = (run(problem, shard=(i, 2)) for i in range(2))
    for wrong in ([first], [first, first], [], [first, second, second]):
        with pytest.raises(ValueError, match="every shard"):
            merged(wrong)
    with pytest.raises(ValueError, match="different settings"):
        merged([first, run(problem, shard=(1, 2), seed=5)])


def test_a_refusal_in_one_shard_refuses_the_whole(problem: Problem) -> None:
    def sometimes(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return x + 0.3 if torch.equal(x[0], problem.x[3]) else x

    attack = Attack("yours", "sometimes", function=sometimes)
    model = [Defended("bare", problem.classifier)]
    parts = [evaluate(model, [attack], problem.x, problem.y, **OPTIONS, shard=(i, 2)) for i in range(2)]
    whole = merged(parts)
    assert whole.findings() == evaluate(model, [attack], problem.x, problem.y, **OPTIONS).findings()
    assert whole.cells[1].refused
    assert {v.check: v.verdict for v in whole.checks}["inside the threat"] == "fail"


def test_survivors_only_attacks_what_is_left(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def half(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        """Breaks the images of class 0."""
        seen.append(len(x))
        stepped = x.clone()
        stepped[y == 0, ..., :4] -= 0.15
        stepped[y == 0, ..., 4:] += 0.15
        return stepped.clamp(0, 1)

    mine = Attack("yours", "half", function=half)
    attacks = [mine, Attack("yours", "again", function=half), Attack("native", "PGD", {"steps": 5})]
    model = Defended("bare", problem.classifier)
    everything = {**OPTIONS, "probe": None}
    report = evaluate([model], attacks, problem.x, problem.y, **everything, survivors_only=True)
    assert (sum(seen), len(seen)) == (12 + 6, 4 + 4)
    first, second, last = report.cells[1:]
    assert first.accuracy.mean == second.accuracy.mean == 0.5
    assert (len(first.skipped), len(second.skipped), len(last.skipped)) == (0, 6, 6)
    assert second.skipped == tuple(i for i in range(12) if i % 2 == 0)
    full = evaluate([model], attacks, problem.x, problem.y, **everything)
    assert report.worst_case("bare") == full.worst_case("bare")


def test_every_model_meets_the_examples_of_every_other(problem: Problem) -> None:
    report = run(problem, cross=True)
    names, found = report.transfer_matrix("native PGD-4")
    assert names == ["bare", "blur", "noise"]
    assert ("bare", "blur") in found
    assert found["bare", "bare"].mean == report.cell("bare", "native PGD-4", "undefended").accuracy.mean
    crossed = report.cell("blur", "native PGD-4 from bare", "transfer")
    blind = report.cell("blur", "native PGD-4", "blind")  # the same examples, made on the same network
    assert crossed.correct == blind.correct
    assert crossed.source == "bare"
    with pytest.raises(ValueError, match="native PGD-4"):
        report.transfer_matrix("nothing")


def test_targeted_attacks_say_how_often_they_got_their_class(problem: Problem) -> None:
    pgd = {"steps": 10, "step_size": 0.05}
    attacks = [Attack(b, "PGD", pgd, targeted="least likely") for b in ("native", "art", "torchattacks")]
    attacks.append(Attack("native", "APGD", {"steps": 10}, targeted="random"))

    class Even(Halves):
        """Every class can win: the brightest quarter."""

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * torch.stack([x[..., 2 * i : 2 * i + 2].mean((1, 2, 3)) for i in range(4)], 1)

    with torch.no_grad():
        network = Even()
        y = network(problem.x).argmax(1)
    options = OPTIONS | {"threat": Threat("Linf", 0.5), "probe": None}
    report = evaluate([Defended("bare", network)], attacks, problem.x, y, **options)
    assert [c.attack.split(" targeted")[1] for c in report.cells[1:]] == [" (least likely)"] * 3 + [" (random)"]
    for c in report.cells[1:]:
        assert c.success is not None
        assert c.success.mean == 1, c.attack
        assert c.accuracy.mean == 0
    with pytest.raises(ValueError, match="untargeted"):
        evaluate([Defended("bare", network)], [Attack("autoattack", "standard", targeted="random")], problem.x, y,
                 **options)  # fmt: skip


def test_passes_are_counted(problem: Problem) -> None:
    attack = [Attack("native", "PGD", {"steps": 4, "best": False})]
    options = OPTIONS | {"probe": None, "all_steps": True}
    report = evaluate(models(problem), attack, problem.x, problem.y, **options)
    full = report.cell("blur", "native PGD-4", "full").observed
    assert full == {
        "forward": 48, "backward": 48, "purifier_forward": 48, "purifier_backward": 48,
        "watched": 12, "silent": 0, "still": 0, "unmoved": 0, "varied": 0,
    }  # fmt: skip
    assert report.cell("noise", "native PGD-4 + EOT-2", "full").observed["forward"] == 96
    assert report.cell("blur", "native PGD-4", "blind").observed["purifier_forward"] == 0


def test_broken_images_leave_attacks_that_see_the_defence(problem: Problem) -> None:
    """PGD-4 takes five forward passes an image and four gradients; a broken image takes no more."""
    attack, threat = [Attack("native", "PGD", {"steps": 4})], Threat("Linf", 0.5)
    options = OPTIONS | {"probe": None, "threat": threat}
    full, early = (
        evaluate(models(problem), attack, problem.x, problem.y, **options, all_steps=every) for every in (True, False)
    )
    a, b = (report.cell("blur", "native PGD-4", "full") for report in (full, early))
    assert (a.observed["forward"], a.observed["backward"]) == (60, 48)
    assert b.observed["forward"] < 60
    assert a.correct == b.correct
    assert b.parameters["leave"] == "broken"
    assert "leave" not in a.parameters
    blind = early.cell("blur", "native PGD-4", "blind")
    assert blind.correct == full.cell("blur", "native PGD-4", "blind").correct
    assert "leave" not in blind.parameters


def test_frozen_probes_are_judged_under_the_frozen_draw(problem: Problem) -> None:
    report = run(problem)
    frozen = next(c for c in report.probes if c.probe == "frozen")
    assert len(frozen.correct) == 1
    assert frozen.model == "noise"
    assert {c.model for c in report.probes if "draws, more" in c.probe} == {"noise"}


def test_data_facts_and_settings_stand_in_the_report(problem: Problem) -> None:
    report = run(problem, data={"name": "halves", "indices": [3, 4]})
    about = json.loads(report.to_json())["provenance"]
    assert about["data"] == {"name": "halves", "indices": [3, 4]}
    assert about["settings"]["knowledge"] == ["blind", "full"]
    assert about["attacks"][3]["name"] == "StAdv"
    assert len(about["sha256_of_models"]["bare"]) == 64


def test_attacks_outside_the_ball_are_shown_and_not_counted(problem: Problem) -> None:
    report = run(problem)
    cell = report.cell("bare", "native StAdv-2 0.05", "undefended")
    assert cell.threat == "StAdv bound 0.05"
    assert cell not in report.attacked("bare")
    assert any("StAdv" in row[1] for row in report.table()[1])


class Coin(Blur):
    """Swaps the halves of each image, and with them its class, when its coin says so."""

    stochastic = True

    def purify(self, x: Tensor) -> Tensor:
        swap = (torch.rand(len(x)) < 0.5).view(-1, 1, 1, 1)
        return torch.where(swap, x.roll(4, -1), x)


NOTHING = Attack("yours", "nothing", function=lambda m, x, y, t: x + 0 * m(x).sum().detach())


def test_every_redraw_and_every_batch_draws_anew(problem: Problem) -> None:
    model = [Defended("coin", problem.classifier, Coin())]
    options = OPTIONS | {"probe": None, "repeats": 6, "knowledge": [Knowledge.FULL]}
    rows = evaluate(model, [NOTHING], problem.x, problem.y, **options).cells[1].correct
    assert len(set(rows)) == 6
    assert any(row[:6] != row[6:] for row in rows)


def test_a_frozen_model_answers_under_its_one_draw(problem: Problem) -> None:
    options = OPTIONS | {"threat": Threat("Linf", 0.0), "probe": Probe(12, 1)}
    report = evaluate([Defended("coin", problem.classifier, Coin())], [NOTHING], problem.x, problem.y, **options)
    (frozen,) = (c for c in report.probes if c.probe == "frozen")
    assert all(len(set(frozen.correct[0][i : i + 3])) == 1 for i in range(0, 12, 3))  # one draw a block
    drawn = next(c for c in report.probes if "base" in c.probe)
    assert len(set(drawn.correct[0])) == 2


def test_a_methods_own_gradients_are_averaged_where_they_draw(problem: Problem) -> None:
    seen: dict[str, list[int]] = {"drawn": [], "own": [], "known": []}
    generator = torch.Generator().manual_seed(0)

    class Three(Coin):
        """A gradient whose draws happen to be equal, one with a generator of its own, and one that draws nothing."""

        def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
            def drawn(v: Tensor) -> Tensor:
                seen["drawn"].append(len(v))
                return torch.ones_like(v) * (torch.rand(()) < 2)

            def own(v: Tensor) -> Tensor:
                seen["own"].append(len(v))
                return torch.randn(v.shape, generator=generator)

            def known(v: Tensor) -> Tensor:
                seen["known"].append(len(v))
                return torch.ones_like(v)

            return {"drawn": drawn, "own": own, "known": known}

    options = OPTIONS | {"probe": None, "eot_samples": 5, "knowledge": [Knowledge.ADAPTIVE]}
    evaluate([Defended("coin", problem.classifier, Three())], ATTACKS[:1], problem.x, problem.y, **options)
    assert {n for sizes in seen.values() for n in sizes} == {3}  # a pass of its own for each sample of a block
    assert len(seen["drawn"]) == (1 + 5 * 4) * 4  # one to see whether it draws; samples, steps, blocks
    assert len(seen["own"]) == (2 + 5 * 4) * 4
    assert len(seen["known"]) == (2 + 4) * 4


def test_several_candidates_are_rated_over_as_many_passes_as_the_answers(problem: Problem) -> None:
    class Several(Coin):
        """No gradient leads anywhere: only the ratings are of interest."""

        def __init__(self, count: int) -> None:
            super().__init__()
            self.count, self.passes = count, 0

        def purify(self, x: Tensor) -> Tensor:
            self.passes += 1
            return super().purify(x)

        def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
            return {f"nothing {i}": torch.zeros_like for i in range(self.count)}

    options = OPTIONS | {"probe": None, "eot_samples": 1, "repeats": 7, "knowledge": [Knowledge.ADAPTIVE]}
    last = Attack("native", "PGD", {"steps": 1, "best": False})
    passes = []
    for count in (2, 3):
        purifier = Several(count)
        evaluate([Defended("m", problem.classifier, purifier)], [last], problem.x, problem.y, **options)
        passes.append(purifier.passes)
    assert passes[1] - passes[0] == 7 * 4  # repeats, blocks


def test_who_knows_the_inside_leaves_no_more_than_who_has_the_full_gradient(problem: Problem) -> None:
    class Downhill(Blur):
        """Its own gradient leads away from any adversarial image."""

        def adaptive_attacks(self, classifier: nn.Module, x: Tensor, y: Tensor) -> dict[str, Gradient]:
            true = ascent(cross_entropy(nn.Sequential(self, classifier), y))
            return {"away": lambda v: -true(v)}

    options = OPTIONS | {
        "probe": None,
        "knowledge": [Knowledge.FULL, Knowledge.ADAPTIVE],
        "threat": Threat("Linf", 0.1),
    }
    last = Attack("native", "PGD", {"steps": 4, "best": False})
    report = evaluate([Defended("m", problem.classifier, Downhill())], [last], problem.x, problem.y, **options)
    clean, full, adaptive = (report.clean("m"), *report.attacked("m"))
    assert sum(full.survived) < sum(clean.survived)
    assert adaptive.knowledge == "adaptive"
    assert sum(adaptive.survived) <= sum(full.survived)
    assert adaptive.parameters["along"] == "adaptive gradients and the full one"


def test_what_some_redraw_left_is_attacked_again(problem: Problem) -> None:
    seen: list[int] = []
    again = Attack("yours", "again", function=lambda m, x, y, t: (seen.append(len(x)), x + 0 * m(x).sum().detach())[1])
    options = OPTIONS | {"probe": None, "repeats": 2, "knowledge": [Knowledge.FULL]}
    model = [Defended("coin", problem.classifier, Coin())]
    report = evaluate(model, [NOTHING, again], problem.x, problem.y, survivors_only=True, seed=1, **options)
    columns = list(zip(*report.cells[1].correct, strict=True))
    assert sum(seen) == sum(any(c) for c in columns)
    assert sum(all(c) for c in columns) < sum(seen) < 12


@pytest.mark.parametrize("purifier", [Blur(), Noise()], ids=["deterministic", "randomised"])
def test_autoattacks_accuracy_is_that_of_its_returned_examples(
    purifier: Purifier, problem: Problem, tmp_path: Path
) -> None:
    attack = [Attack("autoattack", "custom", {"attacks": ["apgd-ce", "square"]}, images=5)]
    options = OPTIONS | {"threat": Threat("Linf", 0.03), "probe": None, "repeats": 4, "knowledge": [Knowledge.FULL]}
    model = Defended("m", problem.classifier, purifier)
    report = evaluate([model], attack, problem.x, problem.y, folder=tmp_path, **options)
    (found,) = report.attacked("m")
    (x_adv,) = load_file(tmp_path / EXAMPLES).values()
    again = []
    for draw in range(len(found.correct)):
        rows = []
        for number, start in enumerate(range(0, 5, 3)):
            with torch.no_grad(), seeded(block_seed(0, "answers", number, draw)):
                piece = slice(start, min(start + 3, 5))
                rows.append(model.module(x_adv[piece]).argmax(1) == problem.y[piece])
        again.append(tuple(torch.cat(rows).tolist()))
    assert tuple(again) == found.correct
    assert str(found.accuracy) in report.markdown()


def test_a_sequence_split_over_shards_remembers_what_it_skipped(problem: Problem) -> None:
    parts = [run(problem, shard=(i, 3), survivors_only=True) for i in range(3)]
    whole = run(problem, survivors_only=True)
    assert any(c.skipped for c in whole.cells)
    assert merged(parts).findings() == whole.findings()


@pytest.mark.parametrize("shard", [(0, 1), (0, 3), (2, 3), (7, 8)])
def test_the_bar_of_a_shard_ends_where_its_work_does(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, shard: tuple[int, int]
) -> None:
    bars = []

    class Bar:
        def __init__(self, *, total: float, **_: object) -> None:
            self.total, self.done = total, 0.0
            bars.append(self)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def set_postfix_str(self, *_: object, **__: object) -> None: ...

        def update(self, amount: float) -> None:
            self.done += amount

    monkeypatch.setattr(work, "tqdm", Bar)
    run(problem, shard=shard)
    assert [bar.done / bar.total for bar in bars] == pytest.approx([1.0])
