"""Names that people choose cannot break a table, a list or the page: they stay text, on their line."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import count

import pytest

from art_ext.evaluation import Cell, ModelInfo, Report, Verdict
from art_ext.evaluation.inspect import Fingerprint, Gradient
from art_ext.evaluation.report import Refusal, page

PLANTED = {
    "a bar": "a | b",
    "a line break": "a\nb\r\n| c |\u2028d",
    "a script": '<script>alert(1)</script><img src=x onerror="alert(1)">',
    "an escape sequence": "a\x1b[2J\x1b]0;title\x07b",
    "a code span": "a ` | ` b \\` | \\",
    "a link": "![a](http://b) [c](javascript:d)",
    "a change of direction": "a\u202eb\u200fc",
    "half a pair": "a\ud800b",
    "an end of the block": "</pre></td></table></details>'\"",
    "a heading": "# a",
}
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\ud800-\udfff]")


def report_of(name: Callable[[], str]) -> Report:
    """A report in which every text that a user, a library or a model may choose is a name."""
    bare, m, attack, source = name(), name(), name(), name()
    clean = [Cell(model, "clean", "none", ((True, False), (True, True))) for model in (bare, m)]
    cells = (
        *clean,
        Cell(bare, attack, "undefended", ((True, False),), name(), {name(): name(), "eps": 0.1}),
        Cell(m, attack, "full", ((True, False), (True, True)), name(), {name(): name()}),
        Cell(m, name(), "full", ((True, False),), threat=name()),
        Cell(m, f"{attack} from {source}", "transfer", ((True, False),), source=source),
        Cell(m, name(), "blind", (), refused=f"RuntimeError: {name()}", refusal=Refusal.ERROR),
    )
    verdicts = ("pass", "warn", "fail", "not run", "undetermined")
    checks = tuple(Verdict(name(), m, verdict, name()) for verdict in verdicts)
    prints = Fingerprint((0,), ((0.0,),))
    infos = tuple(ModelInfo(n, 2, kind=name(), dtype=name(), sha256=name(), fingerprint=prints, gradient=Gradient.EXACT)
                  for n in (bare, m))  # fmt: skip
    return Report(
        {"norm": "Linf", "eps": 0.1, "given": name()}, cells, checks, (name(), name()),
        {"data": {name(): name()}, "versions": {"torch": name()}}, (), infos, (0, 1), name(), name(), name(), (name(),),
    )  # fmt: skip


def harmless() -> Callable[[], str]:
    numbers = count()
    return lambda: f"name{next(numbers)}"


def planted(text: str) -> Callable[[], str]:
    numbers = count()
    return lambda: f"{text}{next(numbers)}"


def shape(markdown: str) -> list[object]:
    """What each line is: how many entries of a table, or how it begins."""
    return [
        len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else line[:2]
        for line in markdown.split("\n")
    ]


class Tags(HTMLParser):
    """The tags of a page with their attributes but for texts, and the texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[object] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [(k, None if k == "alt" else v) for k, v in attrs]))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_names_leave_every_table_as_it_is(kind: str) -> None:
    text = report_of(planted(PLANTED[kind])).markdown()
    assert shape(text) == shape(report_of(harmless()).markdown())
    assert not CONTROLS.search(text)
    assert "<" not in text.replace("&lt;", "")
    assert not re.search(r"\]\((http|javascript)", text)
    assert not re.search(r"(?<!\\)(?:\\\\)*`", text)
    assert not re.search(r"^- [#+*=~-]", text, re.MULTILINE)
    text.encode("utf-8")


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_names_leave_the_page_as_it_is(kind: str) -> None:
    found, plain = report_of(planted(PLANTED[kind])), report_of(harmless())
    pictures = {planted(PLANTED[kind])(): b"\x89PNG"}
    html = page(found, pictures)
    assert parsed(html).tags == parsed(page(plain, {"name0": b"\x89PNG"})).tags
    assert not CONTROLS.search(html)
    html.encode("utf-8")


def test_names_are_still_read() -> None:
    found = report_of(planted("a | <b>"))
    texts = parsed(page(found)).texts
    assert {"a | <b>0", "a | <b>1", "a | <b>2"} <= set(texts)
    assert "| a \\| &lt;b&gt;1 | a \\| &lt;b&gt;2 |" in found.markdown()
    lines = report_of(planted("a\nb")).markdown()
    assert "| a\\nb1 | a\\nb2 |" in lines


def test_only_a_verdict_is_coloured_as_one() -> None:
    cells = (Cell("fail", "clean", "none", ((True,),)), Cell("fail", "warn", "full", ((True,),)))
    html = page(Report({"norm": "Linf", "eps": 0.1}, cells, (Verdict("c", "fail", "undetermined", "pass"),), (), {}))
    assert re.findall(r'<td class="(\w+)">', html) == ["undetermined"]
