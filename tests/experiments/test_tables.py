"""Tables over several reports: hand-made cells end in the columns where they belong."""

from __future__ import annotations

from dataclasses import replace

from art_ext.evaluation import Cell, judge, mean_interval
from art_ext.evaluation.report import Verdict, several
from experiments import atop, page
from experiments import dir as dir_experiment
from tests.experiments.made import cell, made, rows

ABOUT = "what draws nothing keeps the same at each."


def test_cells_stand_under_their_attack_and_the_worst_case_is_over_the_reports_that_count() -> None:
    first = made(
        cell("bare", "native PGD-20", "undefended", "0000"),
        cell("d", "native PGD-20 + EOT-20", "blind", "1110"),
        cell("d", "native StAdv-50 0.05", "full", "1000", threat="bound 0.05"),
    )
    second = made(
        cell("d", "native PGD-200 + EOT-20", "full", "1011"), cell("d, frozen", "native PGD-200", "full", "0000")
    )
    columns = {
        "blind": ("native PGD-20, blind", "native PGD-20"),
        "full": ("native PGD-200",),
        "StAdv": ("native StAdv-50 0.05",),
    }
    found = rows(several.table([first, second], columns, {"d": [first, second], "d, frozen": [second]}))
    assert found["model"] == ["clean", "blind", "full", "StAdv", "worst case"]
    assert found["bare"] == ["100.0", "0.0", "", "", ""]
    assert found["d"] == ["100.0", "75.0", "75.0", "25.0", "50.0"]  # StAdv has its column and no part in the worst case
    assert found["d, frozen"] == ["100.0", "", "0.0", "", "0.0"]


def test_dirs_table_says_what_dir_adds_to_its_target() -> None:
    target, dir_, frozen = "target alone", "DIR", "DIR, masks frozen"
    paper = made(cell(target, "native PGD-20", "undefended", "1110"), cell(dir_, "native PGD-20", "full", "1100"))
    strong = made(
        cell(target, "native PGD-40", "undefended", "1111"),
        cell(dir_, "native PGD-40 + EOT-20", "bpda", "0111"),
        cell(target, "autoattack standard", "undefended", "11"),
        cell(dir_, "autoattack rand + EOT-20", "full", "10"),
    )
    fixed = made(cell(frozen, "native PGD-200", "full", "0000"))
    text = dir_experiment.compared_table({"paper": paper, "strong": strong, "frozen": fixed})
    found = rows(text)
    at = {name: i for i, name in enumerate(found["model"])}
    assert (found[target][at["AutoAttack"]], found[dir_][at["AutoAttack"]]) == ("100.0", "50.0")
    assert (found[target][at["BPDA + EOT-20, PGD-40"]], found[dir_][at["BPDA + EOT-20, PGD-40"]]) == ("100.0", "75.0")
    assert [found[m][at["worst case"]] for m in (target, dir_, frozen)] == ["100.0", "0.0", "0.0"]
    assert "- PGD-20: -25.0" in text
    assert "- AutoAttack: -50.0" in text
    assert "- worst case, R = 1: -100.0 [" in text
    assert "- worst case, R = 5: -100.0 [" in text
    assert "PGD-200 + EOT-20:" not in text  # nobody ran it


def test_gains_are_paired_and_only_of_what_both_were_put_through() -> None:
    report = made(
        cell("a", "native FGSM", "full", "1110"), cell("b", "native FGSM", "full", "0111"),
        cell("a", "native PGD-20", "full", "1111"), cell("a", "native StAdv-50 0.05", "full", "0100"),
        cell("b", "native StAdv-50 0.05", "full", "01"),
    )  # fmt: skip
    columns = {"FGSM": ("native FGSM",), "PGD": ("native PGD-20",), "StAdv": ("native StAdv-50 0.05",)}
    text = several.gains([report], [("a", "b"), ("a", "nobody")], columns)
    # Two images are added, one in each direction. Clean: 0, 0, 0, 0, 1, -1, deviation sqrt(2 / 6) and half a width of
    # 2.5706 * sqrt(2 / 6 / 5) = 0.664. FGSM: 1, 0, 0, -1, 1, -1, 2.5706 * sqrt(4 / 6 / 5) = 0.939. StAdv: 0, 0, 1, -1,
    # 3.1824 * sqrt(2 / 4 / 3) = 1.299, which is all there is.
    assert text.splitlines() == [
        "| points, over images, for these networks | clean | FGSM | StAdv |", "| --- | --- | --- | --- |",
        "| a minus b | +0.0 [-66.4, +66.4] n=4 | +0.0 [-93.9, +93.9] n=4 | +0.0 [-100.0, +100.0] n=2 |",
    ]  # fmt: skip


def test_atops_frozen_models_have_rows_of_their_own() -> None:
    blind = made(cell("RT2", "native FGSM", "blind", "1111"), cell("undefended", "native FGSM", "undefended", "0000"))
    averaged = made(cell("RT2", "native PGD-200 + EOT-20", "full", "1100"))
    auto = made(cell("RT2", "autoattack rand + EOT-20", "full", "011"))
    frozen = made(cell("RT2, frozen", "native PGD-200", "full", "0000"))
    small = made(cell("RT2 + AToP", "native PGD-50 + EOT-20", "full", "1000"))
    those = {"blind": blind, "averaged": averaged, "autoattack": auto, "frozen": frozen, "known": small}
    text = "\n\n".join(atop.tables({**those, "unseen": small}))
    found = rows(text.split("\n\n")[0])
    assert found["model"][-5:-2] == ["PGD-200 + EOT-20", "AutoAttack", "worst case"]
    # The worst case is over the three images that both saw, of which it leaves the second; PGD leaves two of these
    # three and two of all four, so that the estimate is 2/4 + (1 - 2)/3.
    assert found["RT2"][-5:] == ["50.0", "66.7", "33.3", "100.0", "16.7"]
    assert [found["RT2, frozen"][-3], found["undefended"][1]] == ["0.0", "0.0"]
    # 1, 1, 1, 1, 1, -1: 2/3 - 2.5706 * sqrt((1 - 4/9) / 5) = -0.190
    assert "| RT2 minus undefended | +0.0 [-66.4, +66.4] n=4 | +100.0 [-19.0, +100.0] n=4 |" in text
    assert ABOUT not in text  # of no model that was fine-tuned


def test_where_the_posters_order_holds() -> None:
    def each(attack: str, knowledge: str, **correct: str) -> list[Cell]:
        return [cell(f"{kind} + AToP", attack, knowledge, right) for kind, right in correct.items()]

    # FGSM: half of the twelve each time; with the added ones 6 of 14 +- 2.1604 * sqrt((8 / 14 - (6 / 14)**2) / 13),
    # 0.429 +- 0.373. PGD-20: one and one of four.
    report = made(
        *each("native FGSM", "blind", RT1="0" * 12, RT2="1" * 12, RT3="111111000000"),
        *each("native PGD-20", "blind", RT1="1100", RT2="1111", RT3="1110"),
        *each("native PGD-10", "blind", RT1="1111", RT2="1110", RT3="1100"),
        *each("native PGD-200 + EOT-20", "full", RT1="11", RT2="1111"),
    )
    assert atop.ordering([report]) == (
        "The poster's order of the fine-tuned ones, RT2 > RT3 > RT1, holds under FGSM, blind (n=12); it holds in the "
        "means alone under PGD-20, blind (n=4); it does not hold under PGD-10, blind (n=4)."
    )
    assert atop.ordering([]) == ""


def test_what_the_worst_case_leaves_of_the_best() -> None:
    blind = made(
        cell("adversarially trained", "native FGSM", "undefended", "1111"),
        cell("RT1 + AToP", "native FGSM", "blind", "1101"),
        cell("RT2 + AToP", "native FGSM", "blind", "1111"),
        cell("RT2", "native FGSM", "blind", "1111"),
    )
    averaged = made(
        cell("adversarially trained", "native PGD-200", "undefended", "0111"),
        cell("RT1 + AToP", "native PGD-200 + EOT-20", "full", "1011"),
        cell("RT2 + AToP", "native PGD-200 + EOT-20", "full", "110"),
        cell("RT2", "native PGD-200 + EOT-20", "full", "1111"),
    )
    # Of the first three images RT1 keeps one, RT2 two; each would be as good over all images or with one report less.
    found = atop.remains([blind, averaged], ["RT1 + AToP", "RT2 + AToP"], "adversarially trained")
    # Two of three and the added ones: 4/7 +- 2.4469 * sqrt((4/7 - 16/49) / 6) = 0.571 +- 0.494. The difference 0, 1, 0
    # and the added 1 and -1: 1/5 +- 2.7764 * sqrt((3/5 - 1/25) / 4) = 0.2 +- 1.039.
    kept, apart = "66.7 % [7.7, 100.0] n=3", "33.3 points [-83.9, 100.0] n=3"
    each = "; ".join(f"at R = {r} RT2 + AToP is the best of them with {kept}, {apart} above RT1 + AToP" for r in (1, 5))
    assert found == (
        f"In the worst case {each}. The adversarially trained network, which purifies nothing, keeps {kept} at every R."
    )
    assert atop.remains([blind], ["RT3 + AToP"], "adversarially trained") == ""
    curves = "\n\n".join(atop.tables({"blind": blind, "averaged": averaged})).split(ABOUT)[1]
    assert list(rows(curves.split("\n\n")[1]))[2:] == [
        f"RT{i} + AToP, {what}" for i in (1, 2) for what in ("no attack", "worst case")
    ]
    assert curves.count("RT2 + AToP minus RT1 + AToP, ") == 2


def test_the_page_tells_which_checks_were_run_and_what_the_sweeps_found() -> None:
    said = [
        Verdict("converged", "undefended", "pass", "a"),
        Verdict("converged", "RT2 + AToP", "warn", "b"),
        Verdict("converged", "RT3 + AToP", "pass", "c"),
        Verdict("gives logits", "RT3 + AToP", "pass", "d"),
        Verdict("seeds", "RT3 + AToP", "not run", "e"),
        Verdict("seeds", "RT2 + AToP", "undetermined", "f"),
    ]
    report = replace(made(cell("RT2 + AToP", "native PGD-20", "full", "1111")), checks=tuple(said))
    swept = page.sweeps(report, ["undefended"])
    assert [line.split(" | ")[-1][0] for line in swept.splitlines()[4:]] == ["b", "c", "e", "f"]
    told = page.unhappy({"first": report, "second": report})
    assert [line for line in told.splitlines() if " | warn | " in line or " | undetermined | " in line] == [
        *(f"| {part} | converged | RT2 + AToP | warn | b |" for part in ("first", "second")),
        *(f"| {part} | seeds | RT2 + AToP | undetermined | f |" for part in ("first", "second")),
    ]
    assert told.endswith("Checks that passed: 6; that had nothing to judge: 2.")
    alone = page.unhappy({"first": page.without_sweeps(report, ["undefended"])})
    assert alone == (
        "No check warned, failed or was undetermined. Checks that passed: 2; that had nothing to judge: 0."
    )


def test_many_verdicts_of_a_kind_stand_in_one_row() -> None:
    said = [Verdict("seeds", f"m{i}", "warn", f"detail {i}") for i in range(5)]
    few, many = (replace(made(cell("m0", "native PGD-20", "full", "1111")), checks=tuple(said[:n])) for n in (4, 5))
    assert len(page.unhappy({"p": few}).splitlines()) == 10  # title, header, four rows, how many passed
    (row,) = (line for line in page.unhappy({"p": many}).splitlines() if "detail" in line and "m0" in line)
    assert row == "| seeds | 5 times: m0; m1; m2; m3; m4 | warn | for m0: detail 0 |"


def test_verdicts_are_judged_anew_but_those_on_the_model_itself() -> None:
    kept, stale = Verdict("saturated pixels", "d", "warn", "then"), Verdict("converged", "d", "pass", "then")
    stored = replace(made(cell("d", "native PGD-20", "full", "1111")), checks=(kept, stale))
    found = page.judged(stored).checks
    assert found[0] == kept
    assert stale not in found
    assert {v.check for v in found[1:]} == {v.check for v in judge(stored)}


def test_of_a_mean_alone_the_interval_is_the_widest_that_it_can_have() -> None:
    assert several.of_share(0.6000000238, 5) == mean_interval([1, 1, 1, 0, 0])
    # 3.5 of 5: no values in [0, 1] with this mean are further apart than 1, 1, 1, 0.5, 0.
    assert several.of_share(0.7, 5) == mean_interval([1, 1, 1, 0.5, 0])
    assert several.of_share(0, 5) == mean_interval([0] * 5)
