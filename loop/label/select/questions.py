"""What the decisions of a batch could be asked about: at most one question a decision, or the reason why there is none.

A choice among candidates asks for a preference between the taken one and another that was shown; an edit, between what
the person made of it and the suggestion; a rejection asks for a better text. Where the workflow has categories, a
decision that leaves no pair asks for the category of what was decided on. Only decisions that their people allow to be
used are asked about: of whoever is held out for evaluation alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop.label.derive import split_of
from loop.label.tasks import Kind
from loop.schema import Split
from loop.schema.lake import DECISION_ORDER
from loop.workflows import Workflow

if TYPE_CHECKING:
    import duckdb

PIECE: Final = 50_000
"""Decisions that are held in memory at a time."""
CHARS: Final = 300
"""Characters of a text that are compared and scored: the last of a prompt, the first of an answer. What is asked is
the whole."""


def prepare(connection: duckdb.DuckDBPyConnection, *, held_out_share: float, seed: int, workflow: Workflow) -> None:
    """Make the view `questions`, one row a decision of the batch.

    Args:
        connection: in UTC, with the batch as the view `interactions`, and `signals` (event_id, weight).
        seed: of the split, of the draws, and of which candidate a taken one is held against.
    """
    values = connection.sql(_VALUES).to_arrow_table()["value"].to_pylist()
    held_out = sorted(value for value in values if split_of(value, held_out_share, seed) is Split.HELD_OUT)
    connection.register("held_out", pa.table({"value": pa.array(held_out, pa.string())}))
    connection.execute(_LAST)
    connection.execute("CREATE OR REPLACE TEMP TABLE wanted (draw UBIGINT, place BIGINT)")
    alone = Kind.CATEGORY if workflow.categories else None
    rejected = Kind.CATEGORY if workflow.categories else Kind.REWRITE
    own = f"md5_number_lower('{int(seed)}|' || event_id) IN (SELECT draw FROM wanted)"  # noqa: S608
    for view, source in (
        ("questions", "interactions"),
        ("wanted_questions", f"(SELECT * FROM interactions WHERE {own})"),  # noqa: S608
    ):
        connection.execute(
            _QUESTIONS.format(
                view=view,
                source=source,
                seed=int(seed),
                alone=f"'{alone.value}'" if alone else "NULL",
                rejected=rejected.value,
                blanks="' ' || chr(9) || chr(10) || chr(13)",
            )
        )


def pieces(connection: duckdb.DuckDBPyConnection, aside: Counter[str]) -> Iterator[pa.Table]:
    """The questions of the batch, cut to what is compared, a piece after the other.

    Columns: `draw` and `pool`, random numbers that name the question; `kind`, `held_out`, `weight`; the texts `asked`,
    `first`, `second`, of which a preference alone has the last.

    Args:
        aside: to which the decisions that ask nothing are added, by reason.
    """
    query = f"""
    SELECT no_question, draw, pool, kind, is_held_out AS held_out, weight, right(asked, {CHARS}) AS asked,
        left(first, {CHARS}) AS first, left(second, {CHARS}) AS second
    FROM questions
    """  # noqa: S608
    for batch in connection.sql(query).to_arrow_reader(PIECE):
        rows = pa.table(batch)
        for told in rows["no_question"].drop_null().value_counts().to_pylist():
            aside[told["values"]] += told["counts"]
        yield rows.filter(pc.is_null(rows["no_question"])).drop_columns(["no_question"])


def whole(connection: duckdb.DuckDBPyConnection, draws: Sequence[int]) -> pa.Table:
    """The questions with those draws, in their order, whole: as `pieces`, and prompt, event, person and batch.

    `standing` and `against` are the text that the decision prefers and the other, where it asks for a preference.
    """
    numbered = pa.table({"draw": pa.array(draws, pa.uint64()), "place": pa.array(range(len(draws)), pa.int64())})
    connection.register("numbered", numbered)
    connection.execute("DELETE FROM wanted")
    connection.execute("INSERT INTO wanted SELECT draw, place FROM numbered")
    found = connection.sql("SELECT * FROM wanted_questions JOIN wanted USING (draw) ORDER BY place").to_arrow_table()
    assert found.num_rows == len(draws), "two questions share a draw, or one is gone"
    return found


_VALUES: Final = """
SELECT DISTINCT employee AS value FROM interactions
UNION SELECT DISTINCT task_id FROM interactions WHERE task_id IS NOT NULL
"""

# Of most suggestions there is one decision: only the others are put in order.
_LAST: Final = f"""
CREATE OR REPLACE TEMP TABLE replaced AS
WITH several AS (SELECT hash(suggestion_id) AS hashed FROM interactions GROUP BY hashed HAVING count(*) > 1)
SELECT event_id FROM (
    SELECT event_id, lead(event_id) OVER (PARTITION BY suggestion_id ORDER BY {DECISION_ORDER}) AS later
    FROM interactions WHERE hash(suggestion_id) IN (FROM several)
) WHERE later IS NOT NULL
"""  # noqa: S608

# Which candidate the taken one is held against, and which text stands first, are a matter of the draw: nothing in a
# task tells what the person decided.
_QUESTIONS: Final = r"""
CREATE OR REPLACE TEMP VIEW {view} AS
WITH sided AS (
    SELECT event_id, employee, batch, prompt, candidates, chosen, decision, final_text, reasons, purposes,
        coalesce(s.weight, 1.0) AS weight,
        employee IN (FROM held_out) OR coalesce(task_id IN (FROM held_out), false) AS is_held_out,
        event_id IN (FROM replaced) AS is_replaced,
        md5_number_lower('{seed}|' || event_id) AS draw, md5_number_upper('{seed}|' || event_id) AS pool,
        list_filter(candidates, lambda c: c.position = chosen)[1].text AS taken
    FROM {source} LEFT JOIN signals s USING (event_id)
), compared AS (
    SELECT *, list_contains(purposes, CASE WHEN is_held_out THEN 'evaluation' ELSE 'training' END) AS consented,
        list_filter(candidates, lambda c: regexp_matches(c.text, '\S') AND c.text <> taken) AS others,
        CASE decision WHEN 'accept' THEN others[1 + (draw % greatest(len(others), 1))::INT].text
            WHEN 'modify' THEN taken END AS against,
        CASE decision WHEN 'accept' THEN taken WHEN 'modify' THEN final_text END AS standing,
        coalesce(regexp_matches(standing, '\S') AND regexp_matches(against, '\S'), false)
            AND translate(standing, {blanks}, '') <> translate(against, {blanks}, '') AS is_pair,
        list_filter(candidates, lambda c: regexp_matches(c.text, '\S'))[1].text AS suggested
    FROM sided
), kinds AS (
    SELECT *, CASE WHEN is_pair AND NOT list_contains(reasons, 'edited_later') THEN 'preference'
            WHEN decision = 'reject' THEN '{rejected}'
            WHEN decision IN ('accept', 'modify') AND NOT is_pair THEN {alone} END AS kind,
        coalesce(prompt[-1].content, '') AS asked
    FROM compared
)
SELECT event_id, employee, batch, prompt, decision, weight, is_held_out, draw, pool, kind, asked, standing, against,
    CASE kind WHEN 'preference' THEN CASE WHEN draw // 2 % 2 = 0 THEN standing ELSE against END
        WHEN 'rewrite' THEN suggested ELSE asked END AS first,
    CASE kind WHEN 'preference' THEN CASE WHEN draw // 2 % 2 = 0 THEN against ELSE standing END ELSE '' END AS second,
    CASE WHEN decision = 'ignore' THEN 'ignored'
        WHEN is_replaced THEN 'decided anew later'
        WHEN NOT consented THEN 'no consent to ' || CASE WHEN is_held_out THEN 'evaluation' ELSE 'training' END
        WHEN list_contains(reasons, 'edited_later') AND kind IS NULL THEN 'edited later: not known into what'
        WHEN kind IS NULL THEN 'nothing to hold it against'
        WHEN NOT coalesce(regexp_matches(first, '\S'), false) THEN 'no text' END AS no_question
FROM kinds
"""
