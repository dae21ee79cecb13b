"""`python -m benchmarks`: contenders in turn, honest ratios, nothing lost, and a page that is what the JSON says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.training import Objective
from benchmarks import __main__ as command
from benchmarks.performance import attacks, libraries, memory, memory_cases, problems, record, table, training
from benchmarks.performance.measure import Comparison, Contender, Measured, measured
from benchmarks.performance.passes import passes_of
from benchmarks.performance.problems import Options, problem
from benchmarks.performance.targets import TARGETS, Target

CPU = torch.device("cpu")
RESULTS = Path(__file__).parents[1] / "results" / "performance.json"


def comparison(contenders: dict[str, Callable[[], Any]], **more: Any) -> Comparison:
    made = [Contender(name, lambda run=run: run) for name, run in contenders.items()]  # type: ignore[misc]
    return Comparison("topic", "row", made, "ours", {"n": 4}, **more)


def values(found: Comparison, rounds: int = 3) -> dict[str, Measured]:
    return measured(found, rounds=rounds, seed=0, device=CPU, tick=lambda _: None)


def written(seconds: dict[str, list[float]], robust: dict[str, str], threads: int = 1) -> dict[str, Any]:
    """The row of made-up figures."""
    found = {k: Measured({"cpu": v, "wall": [2 * s for s in v]}, robust[k]) for k, v in seconds.items()}
    return record.row(comparison(dict.fromkeys(seconds, int)), found, threads=threads, device="cpu", seed=0)


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    found = values(comparison({"a": lambda: order.append("a"), "ours": lambda: order.append("ours")}))
    assert order == ["a", "ours"] * 4
    assert len(found["a"].values["cpu"]) == len(found["ours"].values["wall"]) == 3


def test_every_run_begins_from_the_same_seed_and_leaves_no_trace() -> None:
    drawn: list[float] = []
    state = torch.get_rng_state()
    values(comparison({name: lambda: drawn.append(torch.rand(1).item()) for name in ("a", "ours")}))
    assert len(set(drawn)) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_a_contender_that_raises_is_named_and_the_others_go_on() -> None:
    def absent() -> None:
        raise ImportError("No module named 'x'")

    def broken() -> None:
        raise TypeError("no such\nargument")

    found = values(comparison({"a": absent, "b": broken, "ours": lambda: None}))
    assert found["a"].unavailable == "not installed: No module named 'x'"
    assert found["b"].unavailable == "TypeError: no such argument"
    assert not found["ours"].unavailable
    assert len(found["ours"].values["cpu"]) == 3


def test_cpu_time_counts_processes_that_were_waited_for() -> None:
    import subprocess
    import sys

    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    found = values(comparison({"ours": lambda: subprocess.run([sys.executable, "-c", burn], check=True)}), rounds=1)
    assert found["ours"].values["cpu"][0] > 0.15


def test_a_difference_is_that_of_each_round() -> None:
    whole, part = iter([0.0, 5.0, 7.0]), iter([0.0, 1.0, 2.0])
    made = comparison(
        {"whole": lambda: next(whole), "part": lambda: next(part)},
        measures=("mib",), differences={"ours": ("whole", "part")},
    )  # fmt: skip
    assert values(made, rounds=2)["ours"].values == {"mib": [4.0, 5.0]}


def test_ratios_medians_and_the_paired_interval() -> None:
    made = written({"ours": [1.0, 9.0, 2.0], "a": [3.0, 4.0, 99.0]}, {"ours": "0111", "a": "0011"})
    ours, theirs = made["contenders"]
    assert (ours["median"], theirs["median"]) == ({"cpu": 2.0, "wall": 4.0}, {"cpu": 4.0, "wall": 8.0})
    assert theirs["ratio"] == {"cpu": 2.0, "wall": 2.0}
    assert (theirs["accuracy"][0], theirs["accuracy"][3]) == (0.5, 4)
    assert theirs["minus_ours"][0] == -0.25


def test_speed_that_weakens_an_attack_does_not_meet_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "row", (Target("ours", "a", 2.0),))
    seconds = {"ours": [1.0], "a": [3.0]}
    alike = written(seconds, {"ours": "0" * 50, "a": "0" * 50})["targets"][0]
    weaker = written(seconds, {"ours": "1" * 25 + "0" * 25, "a": "0" * 50})["targets"][0]
    assert (alike["found"], alike["met"]) == (3.0, True)
    assert weaker["leaves_more"][0] == 0.5
    assert weaker["met"] is False


def test_more_threads_are_judged_by_wall_time() -> None:
    assert [written({"ours": [1.0]}, {"ours": ""}, threads=n)["judged_by"] for n in (1, 2)] == ["cpu", "wall"]


@pytest.mark.parametrize(
    ("target", "ours", "theirs", "ratio", "met"),
    [
        (Target("o", "t", 1.4), 1.0, 1.5, 1.5, True),
        (Target("o", "t", 1.4), 1.5, 1.5, 1.0, False),
        (Target("o", "t", 1.05, most=True), 2.0, 1.0, 2.0, False),
        (Target("o", "", 2.0, most=True), 1.5, 0.0, 1.5, True),
    ],
)
def test_targets_by_hand(target: Target, ours: float, theirs: float, ratio: float, met: bool) -> None:
    assert target.ratio(ours, theirs) == ratio
    assert target.met(ratio) is met


def test_every_target_is_about_contenders_of_a_row() -> None:
    rows = {c.name: c for topic in command.TOPICS.values() for c in topic(Options())}
    assert {c.topic for c in rows.values()} == set(command.TOPICS)
    for name, targets in TARGETS.items():
        there = {*(c.name for c in rows[name].contenders), *rows[name].differences}
        assert {t.ours for t in targets} | {t.against for t in targets if t.against} <= there, name
        assert rows[name].reference in there


def test_examples_outside_the_ball_are_refused() -> None:
    given = problem(problems.WEAK, 4, Options())
    assert set(given.rated(given.x)) <= {"0", "1"}
    with pytest.raises(ValueError, match="the contender"):
        given.rated((given.x + 0.2).clamp(0, 1))


def test_the_libraries_run_and_break_the_weak_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "PGD_STEPS", 4)
    found = values(next(c for c in attacks.pgd(Options(images=3)) if problems.WEAK in c.name), rounds=1)
    for name in ("ART", "torchattacks", "bare loop", attacks.OURS, attacks.ACTIVE):
        assert not found[name].unavailable, (name, found[name])
        assert found[name].robust.count("1") <= 1, name


def test_apgd_runs_as_many_steps_in_each_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "APGD_STEPS", 5)
    found = values(attacks.apgd(Options(images=2))[1], rounds=1)
    assert not [m.unavailable for name, m in found.items() if m.unavailable and name != attacks.HALF]


def test_eot_runs_in_each_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "EOT_STEPS", 1)
    monkeypatch.setattr(attacks, "EOT_SAMPLES", 2)
    found = values(attacks.eot(Options(images=2))[0], rounds=1)
    assert not [m.unavailable for name, m in found.items() if m.unavailable and name != attacks.HALF]
    assert all(set(m.robust) <= set("0123456789") for m in found.values())


def test_bfloat16_is_refused_where_it_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(problems.WEAK, 2, Options())
    monkeypatch.setattr(libraries, "has_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="expected a device with bfloat16"):
        libraries.native(given, "PGD", half=True, steps=2)
    monkeypatch.setattr(libraries, "has_bfloat16", lambda device: True)
    rough, exact = (libraries.native(given, "PGD", half=half, steps=2, random_start=False)() for half in (True, False))
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)


class Toy(Objective):
    """Two networks: the inner one is called by the outer one, the frozen one without gradients."""

    frozen = ("judge",)

    def __init__(self) -> None:
        super().__init__()
        self.outer, self.judge = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten()), nn.Flatten()

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"one": list(self.outer.parameters())}

    def terms(self, player: str, x: Tensor, x_adv: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            self.judge(x)
        return {"loss": self.outer(x_adv).mean()}


def test_the_passes_of_a_step_are_those_of_its_outermost_networks() -> None:
    toy = Toy()
    judge, outer = passes_of(toy, torch.rand(2, 1, 5, 4), torch.zeros(2))
    assert (judge.module, outer.module) == (toy.judge, toy.outer)
    assert (judge.graph, outer.graph) == (False, True)
    assert len(outer.weights) == 2
    calls: list[bool] = []
    toy.outer[1].register_full_backward_hook(lambda *_: calls.append(True))
    outer.run()
    assert calls == [True]
    assert not any(p.requires_grad or p.grad is not None for p in toy.parameters())


def test_a_training_step_and_its_passes_run() -> None:
    found = values(next(c for c in training.training(Options(images=4)) if c.name.endswith("CD-VAE")), rounds=1)
    assert not found[training.OURS].unavailable
    assert not found[training.PASSES].unavailable


@pytest.mark.slow  # in a process of its own: what the heap kept from other tests would serve it
def test_memory_is_what_is_held_beyond_what_was_there() -> None:
    before = torch.zeros(40 * memory.MIB // 4)
    held = memory_cases.peak_of(lambda: torch.zeros(99), lambda: torch.zeros(20 * memory.MIB // 4).sum() and None, CPU)
    assert 15 < held < 30
    assert before.sum() == 0
    first, case = memory_cases.CASES["purifier steps"](2, CPU)
    assert memory_cases.peak_of(first, case, CPU) < 200  # wide activations of four images are 5 MiB, torch is hundreds


@pytest.mark.slow
@pytest.mark.parametrize("case", memory.SIZES)
def test_memory_of_each_case_is_that_of_a_process_of_its_own(case: str) -> None:
    assert 0 <= memory.peak(case, memory.SIZES[case][0], Options()) < 200


def test_memory_of_a_process_that_fails_is_an_error_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="no message"):
        memory.peak("purify", 1, Options())


def test_the_command_writes_json_and_page_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError("No module named 'x'")

    row = comparison({"a": lambda: "01", "b": absent, "ours": lambda: "11"}, rate=str)
    monkeypatch.setattr(command, "TOPICS", {"topic": lambda options: [row]})
    threads, file = torch.get_num_threads(), tmp_path / "deep" / "p.json"
    command.main(["--threads", "1", "--rounds", "2", "--out", str(file)])
    first = json.loads(file.read_text("utf-8"))
    command.main(["--threads", "2", "--rounds", "1", "--out", str(file)])
    both = json.loads(file.read_text("utf-8"))
    assert [(r["threads"], len(r["contenders"][0]["rounds"]["cpu"])) for r in both["rows"]] == [(1, 2), (2, 1)]
    assert both["rows"][0] == first["rows"][0]
    assert torch.get_num_threads() == threads
    assert {"cpu", "cores", "avx512_bf16", "amx_bf16", "gpu"} <= set(both["machine"])
    page = file.with_suffix(".md")
    text = page.read_text("utf-8")
    page.unlink()
    command.main(["--render", "--out", str(file)])
    assert page.read_text("utf-8") == text == table.render(both)
    assert "| b: not available: not installed: No module named 'x' |" in text
    assert "-50.0 points" in text


def test_figures_of_two_machines_are_not_mixed(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"machine": {"cpu": "another"}, "versions": {}, "rows": []}), "utf-8")
    with pytest.raises(SystemExit, match=r"expected figures of .*another"):
        command.main(["--only", "import", "--out", str(file)])
    assert "another" in file.read_text("utf-8")


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 1}'])
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(text, "utf-8")
    with pytest.raises(SystemExit, match="expected a record of `python -m benchmarks`"):
        command.main(["--render", "--out", str(file)])


def test_the_committed_page_is_what_the_json_says() -> None:
    if not RESULTS.is_file():
        pytest.skip("nothing is committed yet")
    assert RESULTS.with_suffix(".md").read_text("utf-8") == table.render(record.read(RESULTS))
