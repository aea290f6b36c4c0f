"""The blind side-by-side: comparisons put to people, and what their answers say of challenger and champion.

Whoever has people to ask asks them (`loop run` the simulated ones); this module only poses the questions and counts. It
knows no model and no truth. Scores follow one convention: +1 the challenger was preferred, -1 the champion.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.errors import BadInputError
from loop.evaluate.stats import Estimate, Share, estimate, stratified
from loop.lake import from_rows

if TYPE_CHECKING:
    from loop.state import State


class Choice(StrEnum):
    """What a panel member says of two answers."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    NEITHER = "neither"
    """Both are unusable."""


@dataclass(frozen=True)
class Answer:
    """One member's answer to one comparison."""

    comparison_id: str
    employee: str
    """Pseudonym."""
    choice: Choice
    answered_at: datetime
    dwell_ms: int | None = None


@dataclass(frozen=True)
class WorkflowPanel:
    """What the panel says of one workflow. items = asked + identical."""

    workflow: str
    items: int
    identical: int
    """Items on which both models answered alike: a tie, and nobody is asked."""
    answered: Share
    """Of the items asked, how many have an answer."""
    wins: int
    """Items on which the challenger was preferred (by most members, where several answered)."""
    losses: int
    difference: Estimate | None
    """Share of wins minus share of losses, -1 to 1, over answered items and identical ones in proportion."""


@dataclass(frozen=True)
class Panel:
    """What the panel says of the challenger."""

    workflows: tuple[WorkflowPanel, ...]
    whole: Estimate | None
    """Mean of the workflows' differences, each counting alike; None where nothing was answered."""
    answered: Share
    members: int
    left: Share
    """Of the answers that prefer a side, how many prefer the left. The challenger's side is drawn by lot, so that a
    share away from 1/2 is a habit of the panel and adds noise, not bias."""
    least_without_one: float | None
    """The whole's mean with any one member left out, at its least: far below the whole, it hangs on one person."""


SHOWN: Final = ("comparison_id", "workflow", "prompt", "left", "right")
"""What a panel member may see of a comparison."""


def side_by_side(  # noqa: PLR0913 - one argument a fact
    items: pa.Table,
    *,
    cycle: date,
    attempt: int,
    challenger: str,
    champion: str,
    challenger_answers: Sequence[str],
    champion_answers: Sequence[str],
    seed: int,
) -> pa.Table:
    """Comparisons of two models on `items` (schema `benchmark`), in the items' order, schema `comparisons`.

    Which side is the challenger's is drawn by lot from `seed` and the comparison's id, one draw for each comparison.
    Identical answers stay in the table (they are a tie) and are not asked about: see `to_ask`.

    Args:
        challenger_answers: one answer an item, in the same order; likewise `champion_answers`.
    """
    assert items.num_rows == len(challenger_answers) == len(champion_answers), "one answer an item"
    rows: list[dict[str, Any]] = []
    for item, new, old in zip(items.to_pylist(), challenger_answers, champion_answers, strict=True):
        comparison_id = _digest(cycle.isoformat(), str(attempt), item["item_id"], challenger, champion)
        on_left = int(_digest("side", str(seed), comparison_id)[:8], 16) % 2 == 0
        rows.append(
            {
                "comparison_id": comparison_id,
                "day": cycle,
                "workflow": item["workflow"],
                "item_id": item["item_id"],
                "prompt": item["prompt"],
                "left": new if on_left else old,
                "right": old if on_left else new,
                "challenger_side": (Choice.LEFT if on_left else Choice.RIGHT).value,
                "challenger": challenger,
                "champion": champion,
            }
        )
    return from_rows(rows, schema.COMPARISONS)


def of_attempt(comparisons: pa.Table, cycle: date, attempt: int, challenger: str | None = None) -> pa.Table:
    """The comparisons that one attempt of a cycle posed; a partition keeps those of every attempt.

    Args:
        challenger: only those of this one; other code or settings make another from the same training set.
    """
    columns = ("comparison_id", "item_id", "challenger", "champion")
    mine = [
        comparison_id == _digest(cycle.isoformat(), str(attempt), *parts) and challenger in {None, parts[1]}
        for comparison_id, *parts in zip(*(comparisons[c].to_pylist() for c in columns), strict=True)
    ]
    return comparisons.filter(pa.array(mine, pa.bool_()))


def to_ask(comparisons: pa.Table) -> pa.Table:
    """What to put before a panel: the comparisons whose answers differ, and only the columns that keep them blind."""
    return comparisons.filter(pc.not_equal(comparisons["left"], comparisons["right"])).select(list(SHOWN))


def answers_of_models(comparisons: pa.Table) -> tuple[list[str], list[str]]:
    """The challenger's answers and the champion's, in the order of the rows."""
    pairs = [
        (row["left"], row["right"]) if row["challenger_side"] == Choice.LEFT else (row["right"], row["left"])
        for row in comparisons.select(["left", "right", "challenger_side"]).to_pylist()
    ]
    return [new for new, _ in pairs], [old for _, old in pairs]


def score(comparisons: pa.Table, answers: pa.Table, *, seed: int, confidence: tuple[float, float]) -> Panel:
    """What `answers` (schema `answers`) to `comparisons` say of the challenger.

    An item's score is the mean over the members who answered it of +1 challenger, 0 tie or neither, -1 champion.
    Answers to other comparisons, and to identical pairs, are left out.

    Args:
        seed: of the bootstrap.
        confidence: of the interval on the whole, and of those on single workflows.
    """
    sides = {row["comparison_id"]: row for row in comparisons.drop_columns(["prompt"]).to_pylist()}
    votes: dict[str, dict[str, int]] = defaultdict(dict)
    preferred: Counter[str] = Counter()
    for answer in answers.to_pylist():
        row = sides.get(answer["comparison_id"])
        if row is None or row["left"] == row["right"]:
            continue
        preferred[answer["choice"]] += 1
        votes[answer["comparison_id"]][answer["employee"]] = _vote(Choice(answer["choice"]), row["challenger_side"])
    names = [name for name in schema.WORKFLOWS if name in set(comparisons["workflow"].to_pylist())]
    workflows = tuple(
        _workflow(name, [row for row in sides.values() if row["workflow"] == name], votes, seed, confidence[1])
        for name in names
    )
    scores = _scores(sides, votes)
    members = sorted({member for by in votes.values() for member in by})
    decided = preferred[Choice.LEFT] + preferred[Choice.RIGHT]
    return Panel(
        workflows=workflows,
        whole=stratified(scores, seed=seed, confidence=confidence[0]) if votes else None,
        answered=Share(sum(w.answered.count for w in workflows), sum(w.answered.of for w in workflows)),
        members=len(members),
        left=Share(preferred[Choice.LEFT], decided),
        least_without_one=_least_without_one(sides, votes, members),
    )


def record_answers(state: State, answers: Sequence[Answer]) -> int:
    """Store answers; the number that were new. A member's first answer to a comparison stands.

    Raises:
        BadInputError: a time is naive, or an id is empty.
    """
    from sqlalchemy.dialects.postgresql import insert

    for answer in answers:
        if answer.answered_at.tzinfo is None:
            raise BadInputError(f"answer to {answer.comparison_id}: expected an aware time, got {answer.answered_at}")
        if not answer.comparison_id or not answer.employee:
            raise BadInputError(f"answer: expected a comparison and an employee, got {answer}")
    if not answers:
        return 0
    table = state.tables["answers"]
    rows = [{**vars(answer), "choice": answer.choice.value} for answer in answers]
    with state.transaction() as connection:
        added = connection.execute(insert(table).values(rows).on_conflict_do_nothing().returning(table.c.comparison_id))
        return len(added.all())


def read_answers(state: State, comparisons: pa.Table) -> pa.Table:
    """The answers given so far to these comparisons, schema `answers`, in the order of their keys."""
    import sqlalchemy as sa

    table = state.tables["answers"]
    query = (
        sa.select(table)
        .where(table.c.comparison_id.in_(comparisons["comparison_id"].to_pylist()))
        .order_by(table.c.comparison_id, table.c.employee)
    )
    with state.engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return from_rows(rows, schema.ANSWERS)


# -- counting -------------------------------------------------------------------------------------------------------

_Rows = Mapping[str, Mapping[str, Any]]
_Votes = Mapping[str, Mapping[str, int]]
"""Comparison to member to vote."""


def _vote(choice: Choice, challenger_side: str) -> int:
    match choice:
        case Choice.LEFT | Choice.RIGHT:
            return 1 if choice == challenger_side else -1
        case Choice.TIE | Choice.NEITHER:
            return 0


def _item_scores(rows: Sequence[Mapping[str, Any]], votes: _Votes, but: str | None = None) -> list[float]:
    """Scores of the answered items, and a zero for each identical one in the proportion in which the asked were
    answered: with half the answers in, all of the ties would pull the difference towards none."""
    scores: list[float] = []
    identical = 0
    for row in rows:
        cast = [vote for member, vote in votes.get(row["comparison_id"], {}).items() if member != but]
        if row["left"] == row["right"]:
            identical += 1
        elif cast:
            scores.append(sum(cast) / len(cast))
    asked = len(rows) - identical
    return scores + [0.0] * (round(identical * len(scores) / asked) if asked else identical)


def _scores(sides: _Rows, votes: _Votes, but: str | None = None) -> list[list[float]]:
    """Scores by workflow, workflows without any left out."""
    by_workflow: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sides.values():
        by_workflow[row["workflow"]].append(row)
    found = (_item_scores(rows, votes, but) for _, rows in sorted(by_workflow.items()))
    return [scores for scores in found if scores]


def _workflow(
    name: str, rows: Sequence[Mapping[str, Any]], votes: _Votes, seed: int, confidence: float
) -> WorkflowPanel:
    identical = sum(row["left"] == row["right"] for row in rows)
    totals = [sum(votes[row["comparison_id"]].values()) for row in rows if row["comparison_id"] in votes]
    return WorkflowPanel(
        workflow=name,
        items=len(rows),
        identical=identical,
        answered=Share(len(totals), len(rows) - identical),
        wins=sum(total > 0 for total in totals),
        losses=sum(total < 0 for total in totals),
        difference=estimate(_item_scores(rows, votes), seed=seed, confidence=confidence),
    )


def _least_without_one(sides: _Rows, votes: _Votes, members: Sequence[str]) -> float | None:
    if len(members) < 2:
        return None
    means: list[float] = []
    for member in members:
        strata = _scores(sides, votes, but=member)
        if strata:
            means.append(sum(sum(scores) / len(scores) for scores in strata) / len(strata))
    return min(means, default=None)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
