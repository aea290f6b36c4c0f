"""The rules of a batch, made from `loop/schema` and the workflow's own: what a whole day of one workflow must satisfy.

Every bound is here with its reason; `files.py` writes them out as they will be run. What a single row must satisfy to
be let in at all is `contract.py`, how a day compares with those before it is `drift.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from loop import schema
from loop.workflows import Workflow


class Severity(StrEnum):
    """What a broken rule means, in Great Expectations' words."""

    CRITICAL = "critical"
    """The batch is held."""
    WARNING = "warning"
    """Somebody should look; the batch goes on."""
    INFO = "info"
    """Good to know."""


class Unit(StrEnum):
    """How the value of a rule is told."""

    ROWS = "rows"
    """So many rows fail."""
    SHARE = "share"
    VALUE = "value"


@dataclass(frozen=True)
class Rule:
    """One expectation with its severity and the reason of its bound.

    >>> Rule("dwell_ms: 0 to a day", "expect_column_values_to_be_between", {"column": "dwell_ms", "min_value": 0},
    ...      reason="longer is a clock in other units", such="dwell_ms < 0")
    """

    name: str
    expectation: str
    """Its type, as Great Expectations calls it."""
    kwargs: Mapping[str, Any]
    reason: str
    severity: Severity = Severity.CRITICAL
    unit: Unit = Unit.ROWS
    such: str | None = None
    """SQL over the measures: the rows that are named as examples."""
    usual: bool = False
    """Whether it speaks of what is usual at work: then it holds nothing without a history, nor an imported past."""
    meta: Mapping[str, Any] = field(default_factory=dict)


def made(workflow: Workflow) -> list[Rule]:
    """The rules for a batch of a workflow, over the columns of `measures.measures`."""
    return [*_of_schema(workflow), *_of_what_was_shown(workflow), *_of_decisions(workflow)]


def _of_schema(workflow: Workflow) -> Iterator[Rule]:
    for column in schema.INTERACTIONS.columns:
        if not column.nullable and column.privacy is schema.Privacy.NONE and not pa.types.is_nested(column.type):
            yield Rule(
                f"{column.name}: never null",
                "expect_column_values_to_not_be_null",
                {"column": column.name},
                "the schema says so: what is made of a row needs it",
                such=f"{column.name} IS NULL",
            )
    yield Rule(
        "event_id: unique",
        "expect_column_values_to_be_unique",
        {"column": "event_id"},
        "the table's key: an event that is there twice is learned from twice",
        such="event_id IN (SELECT event_id FROM measures GROUP BY event_id HAVING count(*) > 1)",
    )
    yield Rule(
        f"workflow: {workflow.name}",
        "expect_column_values_to_be_in_set",
        {"column": "workflow", "value_set": [workflow.name]},
        "the partition: rows of another workflow have other rules",
        such=f"workflow <> '{workflow.name}'",
    )
    decisions = [decision.value for decision in schema.Decision]
    yield Rule(
        f"decision: one of {', '.join(decisions)}",
        "expect_column_values_to_be_in_set",
        {"column": "decision", "value_set": decisions},
        "the labels are derived from these four and no other",
        such=f"decision NOT IN ({', '.join(repr(d) for d in decisions)})",
    )


def _of_what_was_shown(workflow: Workflow) -> Iterator[Rule]:
    yield Rule(
        "candidates: 1 to 20 shown",
        "expect_column_values_to_be_between",
        {"column": "candidates", "min_value": 1, "max_value": 20},
        "nobody weighs more than twenty suggestions; more is a log of something else",
        such="candidates NOT BETWEEN 1 AND 20",
    )
    yield Rule(
        "empty candidates: at most 5 in 100 rows",
        "expect_column_mean_to_be_between",
        {"column": "empty_candidates", "max_value": 0.05},
        "a tool that loses its model's answers sends blanks; a few are a model's own",
        unit=Unit.VALUE,
        such="empty_candidates > 0",
    )
    yield Rule(
        "prompt_chars: at least 1 in 99 %",
        "expect_column_values_to_be_between",
        {"column": "prompt_chars", "min_value": 1, "mostly": 0.99},
        "a tool that loses its prompts sends blanks; what was answered to nothing teaches nothing",
        such="prompt_chars < 1",
    )
    yield Rule(
        "dwell_ms: 0 to a day",
        "expect_column_values_to_be_between",
        {"column": "dwell_ms", "min_value": 0, "max_value": 24 * 60 * 60 * 1000, "mostly": 0.999},
        "a longer one is a clock in other units; one in a thousand is somebody's weekend",
        such="dwell_ms NOT BETWEEN 0 AND 86400000",
    )
    for column in ("arm_propensity", "order_propensity"):
        yield Rule(
            f"{column}: above 0, at most 1",
            "expect_column_values_to_be_between",
            {"column": column, "min_value": 0, "max_value": 1, "strict_min": True},
            "a probability of something that happened; off-policy estimates divide by it",
            such=f"NOT ({column} > 0 AND {column} <= 1)",
        )
    yield Rule(
        f"final_chars: at most {workflow.max_answer_chars} in 99 %",
        "expect_column_values_to_be_between",
        {"column": "final_chars", "max_value": workflow.max_answer_chars, "mostly": 0.99},
        "the workflow's house rule `length`; longer texts are not what it asks for, but a person may want them",
        severity=Severity.WARNING,
        such=f"final_chars > {workflow.max_answer_chars}",
    )


def _of_decisions(workflow: Workflow) -> Iterator[Rule]:
    yield Rule(
        "duplicate rate: at least 80 % of the decisions are distinct",
        "expect_column_proportion_of_unique_values_to_be_between",
        {"column": "same_content", "min_value": 0.8},
        "a client that retries under new ids shows up as one person deciding the same on the same texts",
        unit=Unit.SHARE,
        such="same_content IN (SELECT same_content FROM measures GROUP BY same_content HAVING count(*) > 1)",
    )
    yield Rule(
        "final texts that parse: at least 80 %",
        "expect_column_mean_to_be_between",
        {"column": "final_parses", "min_value": 0.8},
        "answers in another form than the workflow's would teach that form; people's own slips are fewer. An imported "
        "past may have a form of its own",
        unit=Unit.SHARE,
        such="final_parses = 0",
        meta={"on_imports": Severity.WARNING.value, "without_values": "not judged"},
    )
    for decision, (least, most) in workflow.decision_mix.items():
        yield Rule(
            f"share of {decision}: {least:.0%} to {most:.0%}",
            "expect_column_mean_to_be_between",
            {"column": f"is_{decision}", "min_value": least, "max_value": most},
            "the workflow's decision_mix: beyond it a client is broken or nobody reads",
            unit=Unit.SHARE,
            usual=True,
        )
