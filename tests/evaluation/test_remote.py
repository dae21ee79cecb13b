"""A folder at an fsspec address: what was made lies there, whatever happens, and is gone on from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest
from torch import Tensor, nn

from art_ext.evaluation import Attack, Defended, Knowledge, Report, Threat, evaluate
from art_ext.evaluation.run import remote
from art_ext.evaluation.run.manifest import PLAN
from art_ext.evaluation.run.store import EXAMPLES, REPORT

from .conftest import Halves
from .executed import images

THREAT = Threat("Linf", 0.2)


def run(folder: str | Path | None, own: Any = None, executor: int | None = None) -> Report:
    x, y = images(70)
    attacks = [Attack("native", "FGSM"), *([Attack("yours", "own", function=own)] if own else [])]
    return evaluate(
        [Defended("bare", Halves())], attacks, x, y, threat=THREAT, knowledge=[Knowledge.FULL], probe=None,
        progress=False, folder=folder, executor=executor,
    )  # fmt: skip


@pytest.fixture
def storage() -> Any:
    """A storage in memory, empty."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    return found


def test_an_address_holds_what_a_folder_would(storage: Any, tmp_path: Path) -> None:
    report = run("memory://bucket/one")
    assert report.findings() == run(tmp_path / "one").findings()
    names = {name.removeprefix("/bucket/one/") for name in storage.find("/bucket/one")}
    assert names == {str(f.relative_to(tmp_path / "one")) for f in (tmp_path / "one").rglob("*") if f.is_file()}
    assert storage.cat_file(f"/bucket/one/{EXAMPLES}") == (tmp_path / "one" / EXAMPLES).read_bytes()
    assert run("memory://bucket/one").notes[-1] == "read back, nothing was run"


def stops(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    if str(len(x)) == os.environ["ART_EXT_STOP_AT"]:
        raise KeyboardInterrupt
    return x


def test_what_was_made_before_a_failure_is_gone_on_from(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ART_EXT_STOP_AT", "6")  # images of the last block
    with pytest.raises(KeyboardInterrupt):
        run("memory://bucket/two", stops)
    assert not storage.exists(f"/bucket/two/{REPORT}")
    assert len(storage.glob("/bucket/two/pieces/*")) == 5  # three blocks of FGSM and two of the own attack
    monkeypatch.setenv("ART_EXT_STOP_AT", "32")
    report = run("memory://bucket/two", stops)
    assert report.cell("bare", "yours own", "undefended").images == 70


def test_workers_leave_their_pieces_there(storage: Any) -> None:
    run("memory://bucket/three", executor=1)
    assert len(storage.glob("/bucket/three/pieces/*")) == 3
    assert json.loads(storage.cat_file(f"/bucket/three/{REPORT}"))["labels"]
    assert not [name for name in storage.find("/bucket/three") if "images-" in name]


def test_new_files_are_sent_while_it_runs(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "EVERY", 0.01)
    seen: list[int] = []

    def looks(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        import time

        until = time.monotonic() + 10
        while len(storage.glob("/bucket/four/pieces/*")) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        seen.append(len(storage.glob("/bucket/four/pieces/*")))
        return x

    run("memory://bucket/four", looks)
    assert seen[0] >= 3


def test_another_evaluation_at_an_address_is_refused(storage: Any) -> None:
    run("memory://bucket/five")
    before = {name: storage.cat_file(name) for name in storage.find("/bucket/five")}
    x, y = images(70)
    with pytest.raises(ValueError, match="expected an empty folder or the same evaluation"):
        evaluate(
            [Defended("bare", Halves(3.0))], [Attack("native", "FGSM")], x, y, threat=THREAT, probe=None,
            progress=False, folder="memory://bucket/five", knowledge=[Knowledge.FULL],
        )  # fmt: skip
    assert {name: storage.cat_file(name) for name in storage.find("/bucket/five")} == before


def test_a_storage_that_cannot_be_written_costs_nothing(
    storage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **more: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(type(storage), "put_file", full)
        with pytest.raises(OSError, match=r"expected to write to memory://bucket/six, got .*no room.* lies in"):
            run("memory://bucket/six")
    (kept,) = tmp_path.glob("art_ext_*")
    assert Report.load(kept / REPORT).labels
    run("memory://bucket/seven")
    assert [*tmp_path.glob("art_ext_*")] == [kept]


def test_what_is_evaluated_is_sent_first_and_the_report_last(storage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between two files never leaves what a later run would refuse."""
    sent: list[str] = []
    before = type(storage).put_file

    def noted(self: Any, here: str, there: str, **more: Any) -> None:
        sent.append(there.rpartition("/")[2])
        before(self, here, there, **more)

    monkeypatch.setattr(type(storage), "put_file", noted)
    run("memory://bucket/eight")
    assert (sent[0], sent[-1]) == (PLAN, REPORT)


def starts_another(module: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    if not fsspec.filesystem("memory").exists(f"/bucket/nine/{PLAN}"):
        run("memory://bucket/nine")
    return x


def test_another_evaluation_that_began_there_meanwhile_is_not_overwritten(storage: Any) -> None:
    with pytest.raises(ValueError, match="another evaluation that began there meanwhile"):
        run("memory://bucket/nine", starts_another)
    there = Report.from_json(storage.cat_file(f"/bucket/nine/{REPORT}").decode())
    assert {cell.attack for cell in there.cells} == {"clean", "native FGSM"}


def test_an_address_as_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected an address as str, got Path\('memory:/bucket/ten'\)"):
        run(Path("memory://bucket/ten"))
