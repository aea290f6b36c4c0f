from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.sources.quill import EMBED, Delta, Document, Op, from_units, to_units
from loop.errors import BadInputError

FACE = "\N{GRINNING FACE}"


def delta(*ops: tuple[str, int | str]) -> Delta:
    return Delta([Op(**{name: value}) for name, value in ops])


@pytest.mark.parametrize(
    ("before", "ops", "after"),
    [
        ("ab\n", [("retain", 1), ("insert", "X")], "aXb\n"),
        ("ab\n", [("insert", "X")], "Xab\n"),
        ("ab\n", [("retain", 3)], "ab\n"),
        ("abc\n", [("retain", 1), ("delete", 2)], "a\n"),
        ("abc\n", [("retain", 1), ("insert", "X"), ("delete", 1), ("retain", 1), ("insert", "Y")], "aXcY\n"),
        (f"{FACE}b\n", [("retain", 2), ("insert", FACE), ("delete", 1)], f"{FACE}{FACE}\n"),
        (f"{FACE}b\n", [("retain", 1), ("delete", 1)], "\N{REPLACEMENT CHARACTER}b\n"),
    ],
)
def test_a_delta_edits_by_utf16_units(before: str, ops: list[tuple[str, int | str]], after: str) -> None:
    document = Document.of(before)
    document.apply(delta(*ops))
    assert document.text() == after


def test_an_embedded_object_is_one_unit() -> None:
    document = Document.of("ab")
    document.apply(Delta([Op(retain=1), Op(insert={"image": "x.png"})]))
    assert document.text() == f"a{EMBED}b"


@pytest.mark.parametrize("ops", [[("retain", 4)], [("retain", 1), ("delete", 3)], [("delete", -1)], [("retain", -1)]])
def test_a_delta_beyond_the_document_is_refused(ops: list[tuple[str, int | str]]) -> None:
    document = Document.of("abc")
    with pytest.raises(BadInputError, match=r"expected a delta within the 3 units of the document, got Op\("):
        document.apply(delta(*ops))
    assert document.text() == "abc"


def test_an_empty_operation_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"expected a delta"):
        Document.of("abc").apply(Delta([Op()]))


@given(st.text())
def test_units_are_those_of_utf16(text: str) -> None:
    units = to_units(text)
    assert len(units) == len(text.encode("utf-16-le")) // 2
    assert from_units(units) == text


# -- spans, against a document in which every unit remembers who it is ------------------------------------------------


class Naive:
    """A document of (identity, unit): what survives is looked up, not computed."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.units = list(enumerate(to_units(text)))
        self.fresh = len(self.units)
        self.inside = {identity for identity, _ in self.units[start:end]}
        self.before = {identity for identity, _ in self.units[:start]}
        self.after: set[int] | None = None
        self.head_cut = self.tail_cut = False

    def apply(self, edit: Delta) -> None:
        old, at, new = self.units, 0, []
        start, end = self.span()
        for op in edit.ops:
            if op.insert is not None:
                new += [(self.fresh + i, unit) for i, unit in enumerate(to_units(str(op.insert)))]
                self.fresh += len(to_units(str(op.insert)))
            elif op.retain is not None:
                new += old[at : at + op.retain]
                at += op.retain
            else:
                at += op.delete or 0
        self.units = new + old[at:]
        left = {identity for identity, _ in self.units}
        kept = [i for i in range(start, end) if old[i][0] in left]
        if not kept:
            self.inside = set()
            return
        self.head_cut |= bool("".join(unit for _, unit in old[start : kept[0]]).strip())
        cut = bool("".join(unit for _, unit in old[kept[-1] + 1 : end]).strip())
        places = {identity: i for i, (identity, _) in enumerate(self.units)}
        first, last = places[old[kept[0]][0]], places[old[kept[-1]][0]]
        self.inside = {identity for identity, _ in self.units[first : last + 1]}
        if cut and not self.tail_cut:
            self.tail_cut = True
            self.after = {identity for identity, _ in old[end:]}
        # What is typed into the surroundings belongs to them from then on.
        left, right = self.gap()
        self.before = {identity for identity, _ in self.units[:left]}
        if self.after is not None:
            self.after = {identity for identity, _ in self.units[right:]}

    def span(self) -> tuple[int, int]:
        places = [i for i, (identity, _) in enumerate(self.units) if identity in self.inside]
        return (places[0], places[-1] + 1) if places else (0, 0)

    def gap(self) -> tuple[int, int]:
        """To where what was typed at the head reaches, and what was typed at the tail since it was cut."""
        if not self.inside:
            return 0, 0
        before = [i for i, (identity, _) in enumerate(self.units) if identity in self.before]
        left = before[-1] + 1 if before else 0
        if self.after is None:
            return left, self.span()[1]
        after = [i for i, (identity, _) in enumerate(self.units) if identity in self.after]
        return left, after[0] if after else len(self.units)


@st.composite
def edits(draw: st.DrawFn, size: int) -> tuple[Delta, int]:
    """A delta that fits a document of `size` units, and the size after it."""
    ops: list[Op] = []
    at, new = 0, size
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["retain", "retain", "insert", "delete"]))
        if kind == "insert":
            text = draw(st.text(alphabet=f"ab \n.{FACE}", min_size=1, max_size=4))
            ops.append(Op(insert=text))
            new += len(to_units(text))
            continue
        length = draw(st.integers(0, size - at))
        at += length
        ops.append(Op(retain=length) if kind == "retain" else Op(delete=length))
        new -= length if kind == "delete" else 0
    return Delta(ops), new


def test_what_is_typed_where_a_span_was_cut_stands_between_it_and_its_surroundings() -> None:
    document = Document.of("a big dog.\n")
    span = document.mark(2, 10)
    document.apply(delta(("retain", 6), ("delete", 4)))
    assert (span.start, span.end, span.left, span.right, span.tail_cut) == (2, 6, 2, 6, True)
    document.apply(delta(("retain", 6), ("insert", "cat")))
    assert document.text(span.end, span.right) == "cat"
    document.apply(delta(("retain", 2), ("delete", 1)))
    document.apply(delta(("retain", 2), ("insert", "p")))
    assert document.text(span.left, span.start) == "p"
    assert (document.text(span.start, span.end), span.head_cut) == ("ig ", True)


@given(st.data())
def test_a_span_is_where_its_units_are(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet=f"xyz \n.{FACE}", min_size=1, max_size=20))
    size = len(to_units(text))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    document, naive = Document.of(text), Naive(text, start, end)
    span = document.mark(start, end)
    for _ in range(data.draw(st.integers(1, 12))):
        edit, size = data.draw(edits(size))
        document.apply(edit)
        naive.apply(edit)
        assert document.units == "".join(unit for _, unit in naive.units)
        assert (span.start, span.end) == naive.span()
        if span.start < span.end:
            assert (span.head_cut, span.tail_cut) == (naive.head_cut, naive.tail_cut)
            assert (span.left, span.right) == naive.gap()
