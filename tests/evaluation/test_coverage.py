"""The intervals hold what they promise: exact coverage of shares, simulated coverage of means, and the page of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from art_ext.evaluation.statistics import Interval, intervals, mean_interval
from benchmarks.statistics import __main__ as command
from benchmarks.statistics import coverage, exact, simulated, table
from benchmarks.statistics.coverage import Effort

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "results" / "statistics.json").read_text("utf-8"))["coverage"]
SIZES = (8, 25, 64)


def single_holds() -> None:
    """Whether the intervals of a share cover each share with 94 % at least."""
    for n in SIZES:
        ends = exact.single_ends(n)
        assert exact.single_coverage(ends, np.append(exact.shares(100), exact.beside(ends))).min() >= 0.94


def paired_holds() -> None:
    """Whether the intervals of a paired difference of booleans cover each with 93 % at least."""
    for n in SIZES:
        ends = exact.paired_ends(n)
        assert exact.paired_coverage(ends, np.append(exact.on_grid(), exact.beside_ends(ends), axis=0)).min() >= 0.93


def without_added_images(monkeypatch: pytest.MonkeyPatch) -> None:
    made = intervals._with_added
    monkeypatch.setattr(intervals, "_with_added", lambda values, _, box, *more: made(values, (), box, *more))


def normal_instead_of_t(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scipy.stats.t", SimpleNamespace(ppf=lambda q, df: 1.96))


def wald(monkeypatch: pytest.MonkeyPatch) -> None:
    without_added_images(monkeypatch)
    normal_instead_of_t(monkeypatch)


BEGIN, END = "<!-- coverage -->", "<!-- /coverage -->"
FAULTS = (without_added_images, normal_instead_of_t, wald)


def test_shares() -> None:
    single_holds()


def test_paired_shares() -> None:
    paired_holds()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("holds", [single_holds, paired_holds])
def test_other_intervals_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[pytest.MonkeyPatch], None], holds: Callable[[], None]
) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        holds()


def test_the_sum_over_the_outcomes_of_a_share() -> None:
    ends = np.array([[0, 0.2, 0.5], [0.5, 0.8, 1]])
    # Two images at 30 %: none right has 0.49, one 0.42, and the interval of both begins at 50 %.
    # At 60 %: one right has 0.48, both 0.36, and the interval of none ends at 50 %.
    assert exact.single_coverage(ends, np.array([0.3, 0.6])) == pytest.approx([0.91, 0.84])


def test_the_sum_over_the_outcomes_of_a_paired_difference() -> None:
    ends = np.array([[[-0.1, -1.0], [0.1, np.nan]], [[0.1, -0.1], [1.0, np.nan]]])
    # One image, the first alone right in 30 %, the second alone in 25 %: 0.05 is in the interval of no difference only.
    # In 60 and 20 %: 0.4 is in the interval of the first alone.
    assert exact.paired_coverage(ends, np.array([[0.3, 0.25], [0.6, 0.2]])) == pytest.approx([0.45, 0.6])
    everything = np.broadcast_to(np.array([-1.0, 1.0])[:, None, None], (2, 1001, 1001))
    for true in ([0.3, 0.2], [0.001, 0], [0, 0], [0.6, 0.4], [1, 0]):
        assert exact.paired_coverage(everything, np.array([true])) == pytest.approx([1], abs=1e-9)


def test_a_mirror_image_has_the_mirrored_interval() -> None:
    ends = exact.paired_ends(9)
    assert ends[:, 2, 5] == pytest.approx(intervals.paired_difference([1] * 2 + [0] * 7, [0] * 4 + [1] * 5)[1:3])


def test_the_smallest_mean_that_is_possible() -> None:
    # One image, at least 60 %: up to a share of 0.4 "wrong" suffices, from 0.6 on "right"; between, both must be held.
    # Of the shares 0.05, 0.15, ...: twice 0.95 + 0.85 + 0.75 + 0.65, and twice 1.
    assert exact.least_mean(1, 0.6, 10) == pytest.approx(0.84)


def test_true_values_lie_on_both_sides_of_each_end() -> None:
    assert exact.beside(np.array([[0, 0.25], [0.25, 1]])) == pytest.approx([0, 0.25, 0.25, 1], abs=1e-8)
    ends = exact.paired_ends(8)
    apart = exact.beside_ends(ends)
    assert (apart >= 0).all()
    assert (apart.sum(1) <= 1 + 1e-9).all()
    for end in ends[:, 3, 0]:  # three images differ, all in favour of the first
        assert any(apart[apart[:, 1] == 0, 0] > end) or end < 0


def test_what_images_show() -> None:
    levels = simulated.shown_apart(np.array([1.0, 1.0]), np.array([0.5, 0.5]), 1)
    assert (levels.values.tolist(), levels.true) == ([-1, 0, 1], 0.5)
    assert levels.chances == pytest.approx([0, 0.5, 0.5])
    for name, pair in simulated.PAIRS.items():
        levels = simulated.shown_apart(*pair, 5)
        assert levels.values @ levels.chances == pytest.approx(levels.true), name
    for name, right in simulated.POPULATIONS.items():
        levels = simulated.shown(right, 5)
        assert levels.values @ levels.chances == pytest.approx(levels.true), name


def means_hold(interval: Callable[[simulated.Values, int], Interval] = simulated.of_mean) -> None:
    """Whether the intervals of means over five repeats hold in 94 % of simulated evaluations."""
    levels = simulated.shown(simulated.ATTACKED, 5)
    assert all(simulated.coverage(levels, n, interval, 1000, [0, n]) >= 0.94 for n in SIZES)


def test_means_over_repeats() -> None:
    means_hold()
    with pytest.raises(AssertionError):
        means_hold(lambda values, _: mean_interval(np.repeat(values, 5)))  # repeats counted as images


def paired_means_hold() -> None:
    """Whether the intervals of paired differences over five repeats hold in 94 % of simulated evaluations."""
    levels = simulated.shown_apart(*simulated.PAIRS["always right on 2 %, else firm"], 5)
    assert all(simulated.coverage(levels, n, simulated.of_apart, 500, [1, n]) >= 0.94 for n in SIZES)


def test_paired_means_over_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    paired_means_hold()
    without_added_images(monkeypatch)
    with pytest.raises(AssertionError):
        paired_means_hold()


def test_double_sampling() -> None:
    held, worth = simulated.doubled(simulated.Joint(0.45, 0.05), 32, 512, 1000, [0])
    assert held >= 0.95
    # Variances an image: of the difference 0.05 - 0.05 ** 2, of the dear attack 0.45 - 0.45 ** 2.
    assert worth == pytest.approx(0.2475 / (0.0475 * (1 / 32 - 1 / 512) + 0.2475 / 512), rel=0.15)


def test_detectors() -> None:
    found = simulated.detected(0.9, 100, 40, 100, [0])
    assert all(held >= 0.85 and undetermined == 0 for held, undetermined in found.values())
    assert simulated.detected(0.9, 99, 2, 10, [0])["AUC"] == (0, 1)  # too few images: never determined


def test_the_record_keeps_what_was_promised() -> None:
    assert [row["n"] for row in RECORD["share"]] == [row["n"] for row in RECORD["paired"]] == list(coverage.FULL.sizes)
    for row in RECORD["share"]:
        assert row["ours"]["minimum"] >= 0.94
        assert row["n"] < 100 or abs(row["ours"]["mean"] - 0.95) <= 0.01
    for row in RECORD["paired"]:
        assert row["minimum"] >= 0.93
        assert row["n"] < 100 or abs(row["mean"] - 0.95) <= 0.01


def test_the_record_is_what_the_code_gives() -> None:
    for row in RECORD["share"][:3]:
        assert coverage.share(row["n"], coverage.FULL.points) == row
    assert coverage.apart(25, coverage.FULL.pairs, RECORD["seed"]) == RECORD["paired"][2]


def test_the_page_has_the_tables_of_the_record() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    assert table.placed(page, table.tables(RECORD), "coverage") == page


def test_a_page_without_markers_is_refused() -> None:
    for page in ("", f"{BEGIN} x", f"{END} {BEGIN}", 2 * f"{BEGIN}{END}"):
        with pytest.raises(ValueError, match="expected one <!-- coverage -->"):
            table.placed(page, "", "coverage")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "QUICK", Effort((8, 9), 20, 5, 20, 20, 2, 10))
    (tmp_path / "statistics.json").write_text('{"other": 1}', "utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"before {BEGIN} old {END} after", "utf-8")
    command.run(command.arguments(["coverage", "--quick", "--out", str(tmp_path)]))
    record = json.loads((tmp_path / "statistics.json").read_text("utf-8"))
    assert record["other"] == 1
    command.run(command.arguments(["coverage", "--render", "--out", str(tmp_path), "--docs", str(page)]))
    text = page.read_text("utf-8")
    assert text.startswith("before <!-- coverage -->\n\nShares of images, exact")
    assert text.endswith("after")
    assert table.tables(record["coverage"]) in text
