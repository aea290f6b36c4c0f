"""A version is tainted by its own erased rows, and by those of whatever it was trained from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loop.release import taints
from loop.release.releases import ModelVersion
from loop.state import State


@pytest.fixture
def line(model_row: Callable[..., ModelVersion]) -> None:
    """base <- a <- b <- c, and base <- d."""
    for version, parent in (("base", None), ("a", "base"), ("b", "a"), ("c", "b"), ("d", "base")):
        model_row(version, parent=parent)


@pytest.mark.usefixtures("line")
def test_a_taint_goes_down_and_never_up(state: State) -> None:
    changed = {t.version: (t.rows, t.of, t.share, t.ancestor) for t in taints.tag(state, {"a": (3, 12)})}
    assert changed == {"a": (3, 12, 0.25, None), "b": (0, 0, 0.0, "a"), "c": (0, 0, 0.0, "a")}
    assert set(taints.tainted(state)) == {"a", "b", "c"}
    assert [taints.untainted(state, v) for v in ("base", "a", "b", "c", "d")] == ["base", "base", "base", "base", "d"]


@pytest.mark.usefixtures("line")
def test_the_same_again_changes_nothing_and_more_is_told(state: State) -> None:
    taints.tag(state, {"a": (3, 12)})
    assert taints.tag(state, {"a": (3, 12)}) == []
    changed = {t.version: (t.rows, t.share, t.ancestor) for t in taints.tag(state, {"a": (6, 12), "c": (1, 10)})}
    assert changed == {"a": (6, 0.5, None), "c": (1, 0.1, "a")}


@pytest.mark.usefixtures("line")
def test_a_version_that_is_made_later_from_a_tainted_one_is_tainted(
    state: State, model_row: Callable[..., ModelVersion]
) -> None:
    taints.tag(state, {"c": (1, 10)})
    model_row("e", parent="c")
    assert [t.version for t in taints.tag(state, {"e": (0, 8)})] == ["e"]
    assert taints.tainted(state)["e"].ancestor == "c"
    assert taints.untainted(state, "e") == "b"


@pytest.mark.usefixtures("line")
def test_where_the_base_is_tainted_nobody_is_clean(state: State) -> None:
    taints.tag(state, {"base": (1, 100)})
    assert [taints.untainted(state, v) for v in ("base", "c", "d")] == [None, None, None]


@pytest.mark.usefixtures("line")
def test_nothing_erased_is_no_taint(state: State) -> None:
    assert taints.tag(state, {"a": (0, 12)}) == []
    assert taints.tainted(state) == {}
