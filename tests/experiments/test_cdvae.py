"""CD-VAE's tables: hand-made cells end where they belong."""

from __future__ import annotations

from dataclasses import replace

from art_ext.evaluation import Cell
from experiments import cdvae
from tests.experiments.made import cell, made, rows


def bounded(model: str, name: str, correct: str) -> Cell:
    return cell(model, name, "full", correct, threat=name.split()[-1])


def test_tables_6_and_7_by_hand() -> None:
    x, g, played = "undefended", "CD-VAE", "CD-VAE, game"
    reports = {
        "grey": made(
            cell(x, "native PGD-100", "undefended", "0000"),
            cell(g, "native PGD-100", "transfer", "1110"),
            cell(g, "native PGD-100 margin", "transfer", "1101"),
        ),
        "grey_l2": made(cell(x, "native PGD-100", "undefended", "0001"), cell(g, "native PGD-100", "transfer", "1111")),
        "white": made(
            cell(x, "native PGD-200", "undefended", "0000"),
            cell(g, "native PGD-200", "full", "1000"),
            cell(played, "native PGD-200", "full", "1110"),
            cell(played, "autoattack standard", "full", "1101"),
            bounded(played, "native JPEG-100 0.125", "1000"),
            bounded(played, "native StAdv-100 0.05", "0011"),
        ),
        "white_l2": made(
            cell(x, "native PGD-200", "undefended", "0000"),
            cell(g, "native PGD-200", "full", "0100"),
            cell(played, "native PGD-200", "full", "1111"),
        ),
    }
    text = "\n\n".join(cdvae.tables(reports))
    assert (
        text.count("| points, over images, for these networks |") == 2
    )  # nobody was adversarially trained, to whom the games could be compared
    six, second, seven, eighth, unseen = (rows(t) for t in text.split("\n\n") if t.startswith("| model"))
    # 1, 1, 1, 0 and the added 1, -1: 1/2 - 2.5706 * sqrt((5/6 - 1/4) / 5) = -0.378. Clean and StAdv by none.
    assert "| CD-VAE minus undefended | +0.0 [-66.4, +66.4] n=4 | +75.0 [-37.8, +100.0] n=4 | +25.0" in text
    # StAdv and AutoAttack stand in no report.
    assert six["model"] == ["clean", "PGD-100, grey-box", "C&W-100, grey-box", "PGD-200", "worst case"]
    assert six[g] == ["100.0", "75.0", "75.0", "25.0", "25.0"]
    assert list(six) == ["model", "---", x, g]
    assert (second[x][1], second[g][1], second[g][2]) == ("25.0", "100.0", "25.0")
    assert seven[played] == ["100.0", "75.0", "75.0", "25.0", "50.0", "50.0"]
    assert eighth[played] == ["100.0", "100.0", "100.0"]
    assert unseen["model"] == ["Linf", "L2", "JPEG-100", "StAdv-100", cdvae.MEAN, cdvae.LOWEST]
    # 1 and 0 hold against both; the mean is over L2, JPEG and StAdv.
    assert unseen[played] == ["50.0", "100.0", "25.0", "50.0", "58.3", "JPEG-100: 25.0"]
    assert unseen[g][-2:] == ["", "Linf: 25.0"]  # nobody ran them on it
    assert "Does not even break" not in text
    weak = made(cell(x, "native PGD-200", "undefended", "00000001"), bounded(x, "native JPEG-100 0.125", "11111111"))
    # With the added ones 10 of 12: 5/6 - 2.2010 * sqrt((5/6 - 25/36) / 11) = 0.586.
    assert {k: str(v) for k, v in cdvae.too_weak(weak).items()} == {"JPEG-100": "100.0 % [58.6, 100.0] n=8"}
    alone = "\n\n".join(cdvae.tables({"white": weak, "white_l2": reports["white_l2"]})).split("The last columns")[1]
    assert rows(alone)["model"] == ["Linf", "L2", cdvae.MEAN, cdvae.LOWEST]  # that attack tells nothing
    both = rows(cdvae.unseen_table([reports["white"]], reports["white_l2"], ["JPEG-100"]))
    assert both[played] == ["50.0", "100.0", "50.0", "75.0", "Linf: 50.0"]
    robust = made(cell("adversarially trained", "native PGD-200", "undefended", "0001"))
    against = replace(reports["white"], cells=reports["white"].cells + robust.cells)
    gains = "\n\n".join(cdvae.tables({"white": against})).split("| points, over")[1]
    assert "| CD-VAE, game minus adversarially trained | +0.0 [-66.4, +66.4] n=4 | +50.0 [" in gains
    assert "released" not in gains
    alone = "\n\n".join(cdvae.tables({"grey": reports["grey"]}))
    assert "worst case" not in alone  # of attackers who know nothing it would be none
    assert rows(alone)[g] == ["100.0", "75.0", "75.0"]


def test_the_unseen_mean_is_of_the_images_that_all_of_its_columns_saw() -> None:
    x, played = "undefended", "CD-VAE, game"
    linf = made(
        cell(x, "native PGD-200", "undefended", "00000000"),
        cell(played, "native PGD-200", "full", "11111110"),
        bounded(played, "native StAdv-100 0.05", "0101"),
    )
    l2 = made(cell(x, "native PGD-200", "undefended", "0000"), cell(played, "native PGD-200", "full", "110000"))
    text = cdvae.unseen_table([linf], l2)
    # The first four images have 1/2, 1, 0 and 1/2 of L2 and StAdv, a mean of 1/2 with an interval of 1/2 +- 2.3646 *
    # sqrt((3.5 / 8 - 1/4) / 7); all of the six and of the four would give (2/6 + 2/4) / 2 = 0.417.
    of_game = next(line for line in text.splitlines() if line.startswith(f"| {played}")).strip("| ").split(" | ")
    assert of_game[-2] == "50.0 % [11.3, 88.7] n=4"
    # The lowest column stands with its own name and number of images.
    assert of_game[-1].startswith("L2: 33.3 % [")
    assert of_game[-1].endswith("n=6")
    assert rows(text)[x][-2:] == ["", "Linf: 0.0"]
