"""The suite that a batch (one day of one workflow) must pass, made from `schema.py` and the workflow's own rules.

A rule here speaks of the batch as a whole or of every row of it; what a single row must satisfy to be let in at all is
`contract.py`. Great Expectations runs the suite; a failed critical rule holds the batch, any other is a finding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    import pandas as pd

HISTORY = 7
"""Days of history below which volume is a finding and not a block."""
IMPORTS = frozenset({"coauthor", "cups", "jsonl", "langfuse", "mlflow", "otel"})
"""Sources that bring a past in at once: their volume and mix are findings."""
BUSY = 30
"""Median rows a day from which a day without any is a broken feed."""
_SHOWN = 5
"""Failing event ids that a finding names."""


@dataclass(frozen=True)
class Finding:
    """One rule's outcome on one batch. Failing rows are named by id, never quoted.

    >>> Finding("final_text_chars: between 1 and 20000", False, True, "12 of 150 rows (8.0 %)", ("e1", "e2"))
    """

    rule: str
    passed: bool
    blocking: bool
    observed: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchReport:
    """All that the suite found on one batch."""

    rows: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Failed rules that hold the batch."""
        return tuple(f for f in self.findings if f.blocking and not f.passed)

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(f"{f.rule}: {f.observed}" for f in self.failures)

    def markdown(self) -> str:
        """A table for Dagster's metadata."""
        head = "| | rule | rows that fail, or the value | such events |\n|---|---|---|---|\n"
        return head + "\n".join(
            f"| {_mark(f)} | {f.rule} | {f.observed} | {', '.join(f.examples)} |"
            for f in sorted(self.findings, key=lambda f: (f.passed, not f.blocking))
        )


def run(rows: pa.Table, workflow: str, *, volumes: Sequence[int] = ()) -> BatchReport:
    """Run the workflow's suite over a batch.

    Args:
        rows: the batch, in the schema of `interactions`; none is a batch too, and passes as such.
        workflow: whose rules apply.
        volumes: rows of the same workflow on the trailing days that had any, for the bound on volume.
    """
    if not rows.num_rows:
        # A feed that was there for a week and is gone has broken; before that, it is a day without work.
        usual = float(np.median(volumes)) if len(volumes) >= HISTORY else 0.0
        silent = usual >= BUSY
        told = f"0 rows, the trailing median is {usual:g}" if silent else "0 rows: nothing to judge"
        return BatchReport(0, (Finding("the batch has rows", not silent, silent, told),))
    import great_expectations as gx

    frame = measures(rows, workflow)
    imported = set(rows["source"].to_pylist()) <= IMPORTS
    suite = gx.ExpectationSuite(
        name=f"batch_{workflow}", expectations=_expectations(frame, workflow, volumes, imported)
    )
    batch = _asset().add_batch_definition_whole_dataframe(f"b{next(_numbers)}").get_batch({"dataframe": frame})
    result = batch.validate(
        suite, result_format={"result_format": "SUMMARY", "unexpected_index_column_names": ["event_id"]}
    )
    order = {e.configuration.meta["rule"]: i for i, e in enumerate(suite.expectations)}
    findings = sorted((_finding(r, rows.num_rows) for r in result.results), key=lambda f: order[f.rule])
    assert len(findings) == len(suite.expectations), "a rule gave no result"
    return BatchReport(rows.num_rows, tuple(findings))


def measures(rows: pa.Table, workflow: str) -> pd.DataFrame:
    """What the rules speak of: one row per interaction, plain columns only (no prompt, no answer).

    Columns: those of `interactions` that are not nested and not text, and `prompt_chars`, `candidates`,
    `empty_candidates`, `final_chars`, `final_parses` (null where there is no final text), `same_content` (digest of
    what was shown and decided, without ids and times) and one 0/1 column per decision.
    """
    parse = WORKFLOWS[workflow].parse
    frame: pd.DataFrame = rows.drop_columns(
        [
            c.name
            for c in schema.INTERACTIONS.columns
            if c.privacy is not schema.Privacy.NONE or pa.types.is_nested(c.type)
        ]
    ).to_pandas()
    prompts = rows["prompt"].to_pylist()
    shown = rows["candidates"].to_pylist()
    finals = rows["final_text"].to_pylist()
    employees = rows["employee"].to_pylist()
    frame["prompt_chars"] = [sum(len(m["content"]) for m in prompt) for prompt in prompts]
    frame["candidates"] = [len(c) for c in shown]
    frame["empty_candidates"] = [sum(not c["text"].strip() for c in row) for row in shown]
    frame["final_chars"] = [np.nan if text is None else len(text) for text in finals]
    frame["final_parses"] = [np.nan if not text else float(parse(text) is not None) for text in finals]
    frame["same_content"] = [
        hash((who, str(prompt), str(row), final))
        for who, prompt, row, final in zip(employees, prompts, shown, finals, strict=True)
    ]
    for decision in schema.Decision:
        frame[f"is_{decision}"] = pc.equal(rows["decision"], decision.value).cast(pa.int8()).to_numpy()
    return frame


def _expectations(frame: pd.DataFrame, workflow: str, volumes: Sequence[int], imported: bool) -> list[Any]:
    """The suite, as data. Every bound is here, with the reason for it beside it."""
    import great_expectations.expectations as gxe

    flow = WORKFLOWS[workflow]
    rules: list[Any] = []

    def rule(expectation: type, name: str, *, blocking: bool = True, share: bool = False, **kwargs: Any) -> None:
        severity = "critical" if blocking else "info"
        rules.append(
            expectation(severity=severity, meta={"rule": name, "blocking": blocking, "share": share}, **kwargs)
        )

    for column in schema.INTERACTIONS.columns:
        if not column.nullable and column.privacy is schema.Privacy.NONE and not pa.types.is_nested(column.type):
            rule(gxe.ExpectColumnValuesToNotBeNull, f"{column.name}: never null", column=column.name)
    rule(gxe.ExpectColumnValuesToBeUnique, "event_id: unique", column="event_id")
    rule(gxe.ExpectColumnValuesToBeInSet, f"workflow: {workflow}", column="workflow", value_set=[workflow])
    decisions = [d.value for d in schema.Decision]
    rule(
        gxe.ExpectColumnValuesToBeInSet,
        f"decision: one of {', '.join(decisions)}",
        column="decision",
        value_set=decisions,
    )
    rule(gxe.ExpectColumnValuesToBeBetween, "candidates: 1 to 20 shown", column="candidates", min_value=1, max_value=20)
    # A tool that loses its prompts or its model's answers sends blanks; a few are people's own.
    rule(
        gxe.ExpectColumnMeanToBeBetween,
        "empty candidates: at most 5 in 100 rows",
        column="empty_candidates",
        max_value=0.05,
    )
    rule(
        gxe.ExpectColumnValuesToBeBetween,
        "prompt_chars: at least 1 in 99 %",
        column="prompt_chars",
        min_value=1,
        mostly=0.99,
    )
    day = 24 * 60 * 60 * 1000
    rule(
        gxe.ExpectColumnValuesToBeBetween,
        "dwell_ms: 0 to a day",
        column="dwell_ms",
        min_value=0,
        max_value=day,
        mostly=0.999,
    )
    for column_name in ("arm_propensity", "order_propensity"):
        rule(
            gxe.ExpectColumnValuesToBeBetween,
            f"{column_name}: above 0, at most 1",
            column=column_name,
            min_value=0,
            max_value=1,
            strict_min=True,
        )
    # A client that retries under new ids shows up as the same person deciding the same on the same texts.
    rule(
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween,
        "duplicate rate: at least 80 % of the decisions are distinct",
        share=True,
        column="same_content",
        min_value=0.8,
    )
    if frame["final_parses"].notna().any():  # a day on which nobody took anything has no final text to judge
        rule(
            gxe.ExpectColumnMeanToBeBetween,
            "final texts that parse: at least 80 %",
            share=True,
            column="final_parses",
            min_value=0.8,
        )
    known = len(volumes) >= HISTORY and not imported
    for decision, (least, most) in flow.decision_mix.items():
        rule(
            gxe.ExpectColumnMeanToBeBetween,
            f"share of {decision}: {least:.0%} to {most:.0%}",
            share=True,
            blocking=known,
            column=f"is_{decision}",
            min_value=least,
            max_value=most,
        )
    if volumes:
        # A third to three times the median of the trailing days: outside it a feed has broken or doubled.
        usual = float(np.median(volumes))
        rule(
            gxe.ExpectTableRowCountToBeBetween,
            f"volume: a third to three times the trailing median of {usual:g} rows ({len(volumes)} days)",
            blocking=known,
            min_value=int(usual / 3),
            max_value=int(usual * 3),
        )
    return rules


def _finding(result: Any, rows: int) -> Finding:
    meta: Mapping[str, Any] = result.expectation_config.meta
    found = result.result or {}
    if error := _raised(result.exception_info or {}):
        return Finding(meta["rule"], False, meta["blocking"], f"could not be evaluated: {error}")
    if "unexpected_count" in found:
        observed = f"{found['unexpected_count']} of {rows} rows ({found['unexpected_count'] / rows:.1%})"
    else:
        value = found.get("observed_value")
        observed = "no values" if value is None else f"{value:.1%}" if meta["share"] else f"{value:.4g}"
    bad = found.get("partial_unexpected_index_list") or []
    return Finding(
        meta["rule"], bool(result.success), meta["blocking"], observed, tuple(b["event_id"] for b in bad[:_SHOWN])
    )


def _raised(info: Mapping[str, Any]) -> str | None:
    """What went wrong inside an expectation; one entry, or one for each metric that failed."""
    for entry in [info, *(v for v in info.values() if isinstance(v, dict))]:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _mark(finding: Finding) -> str:
    return "✓" if finding.passed else "✗ held" if finding.blocking else "! finding"


_numbers = iter(range(1_000_000_000))


@cache
def _asset() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    # Without a configuration it plans a site of HTML pages in a temporary folder, and tells every terminal where.
    config = DataContextConfig(store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False))
    context = gx.get_context(mode="ephemeral", project_config=config)
    context.variables.progress_bars = {"globally": False}  # a bar for half a second of work is noise in the logs
    return context.data_sources.add_pandas("batches").add_dataframe_asset("interactions")
