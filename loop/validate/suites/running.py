"""Running a suite over a batch with Great Expectations, and what it found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from loop.validate.suites.files import Suite, load
from loop.validate.suites.measures import measured
from loop.validate.suites.rules import Rule, Severity, Unit

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

HISTORY: Final = 7
"""Days of history below which what is usual is a finding and not a block."""
IMPORTS: Final = frozenset({"coauthor", "cups", "jsonl", "langfuse", "mlflow", "otel"})
"""Sources that bring a past in at once: what is usual at work, and its form, are findings there."""
_IDS: Final = {"event_id": "CASE WHEN event_id IS NOT NULL THEN hash(event_id) END AS event_id"}
"""Great Expectations sees no id: it must know whether there is one, and only one, and would put it into its results."""
_SHOWN: Final = 5
"""Failing event ids that a finding names."""


@dataclass(frozen=True)
class Finding:
    """One rule's outcome on one batch. Failing rows are named by id, never quoted.

    >>> Finding("dwell_ms: 0 to a day", False, True, "12 of 150 rows (8.0 %)", "clocks in other units", ("e1", "e2"))
    """

    rule: str
    passed: bool
    blocking: bool
    observed: str
    reason: str = ""
    """Why the bound is what it is."""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchReport:
    """All that was found on one batch."""

    rows: int
    findings: tuple[Finding, ...]
    suite: Suite | None = None
    """By which it was judged; none for a batch of nothing."""
    result: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """Great Expectations' own result as JSON, for its Data Docs."""

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

    def broken(self) -> str:
        """A table of what failed, with examples and the reason of the bound; or that nothing did."""
        failed = [f for f in self.findings if not f.passed]
        held = f"{len(self.findings) - len(failed)} of {len(self.findings)} rules hold."
        return f"{held}\n\n{markdown(failed)}" if failed else held

    def kept(self) -> str:
        """A table of the rules that hold."""
        return markdown([f for f in self.findings if f.passed], examples=False)


def markdown(findings: Sequence[Finding], *, examples: bool = True) -> str:
    """Findings as a table, what failed first. `examples` is whether there is a column of event ids."""
    names = ["", "rule", "found", *(["such events"] if examples else []), "why"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for f in sorted(findings, key=lambda f: (f.passed, not f.blocking)):
        cells = [_mark(f), f.rule, f.observed, *([", ".join(f.examples)] if examples else []), f.reason]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines)


def run(rows: pa.Table | duckdb.DuckDBPyConnection, workflow: str, *, history: int = 0) -> BatchReport:
    """Run the workflow's suite over a batch.

    Args:
        rows: the batch as `measures.measured` takes it; none is a batch too.
        workflow: whose rules apply.
        history: trailing days that had rows and were not held.
    """
    with measured(rows, workflow) as connection:
        count, imported = _about(connection)
        if not count:
            return BatchReport(0, (Finding("the batch has rows", True, False, "0 rows: nothing to judge"),))
        suite = load(workflow)
        rules = {rule.name: rule for rule in suite.rules if _applies(rule, connection)}
        result = _validated(connection, suite, list(rules.values()))
        found = {one.expectation_config.meta["rule"]: one for one in result.results}
        assert set(found) == set(rules), "a rule gave no result"
        usual = history >= HISTORY and not imported
        findings = tuple(
            _finding(rule, found[name], connection, count, blocking=_holds(rule, usual=usual, imported=imported))
            for name, rule in rules.items()
        )
    return BatchReport(count, findings, suite, json.loads(json.dumps(result.to_json_dict())))  # without numpy


def _about(connection: duckdb.DuckDBPyConnection) -> tuple[int, bool]:
    """The number of rows, and whether all of them are an imported past."""
    count, sources = connection.execute("SELECT count(*), list(DISTINCT source) FROM measures").fetchall()[0]
    return count, set(sources or ()) <= IMPORTS


def _applies(rule: Rule, connection: duckdb.DuckDBPyConnection) -> bool:
    """A day on which nobody took anything has no final text to judge."""
    if rule.meta.get("without_values") != "not judged":
        return True
    query = f"SELECT count({rule.kwargs['column']}) FROM measures"  # noqa: S608 - a column of the suite's file
    return bool(connection.execute(query).fetchall()[0][0])


def _holds(rule: Rule, *, usual: bool, imported: bool) -> bool:
    if rule.severity is not Severity.CRITICAL:
        return False
    if imported and rule.meta.get("on_imports"):
        return False
    return usual if rule.usual else True


def _validated(connection: duckdb.DuckDBPyConnection, suite: Suite, rules: Sequence[Rule]) -> Any:
    """Great Expectations' result. Only the columns that rules name become a frame."""
    asset = _asset()  # first: it says where its settings come from
    import great_expectations as gx

    columns = dict.fromkeys(_IDS.get(column, column) for column in (rule.kwargs["column"] for rule in rules))
    frame = connection.sql(f"SELECT {', '.join(columns)} FROM measures").to_arrow_table().to_pandas(self_destruct=True)  # noqa: S608
    expectations = [
        {"type": r.expectation, "kwargs": dict(r.kwargs), "severity": r.severity.value, "meta": {"rule": r.name}}
        for r in rules
    ]
    asked = gx.ExpectationSuite(
        name=suite.name, expectations=expectations, meta={"version": suite.version, "digest": suite.digest}
    )
    batch = asset.add_batch_definition_whole_dataframe(f"b{next(_NUMBERS)}").get_batch({"dataframe": frame})
    return batch.validate(asked, result_format="BASIC")


def _finding(rule: Rule, result: Any, connection: duckdb.DuckDBPyConnection, rows: int, *, blocking: bool) -> Finding:
    found = result.result or {}
    if error := _raised(result.exception_info or {}):
        return Finding(rule.name, False, blocking, f"could not be evaluated: {error}", rule.reason)
    if rule.unit is Unit.ROWS:
        bad = found["unexpected_count"]
        observed = f"{bad} of {rows} rows ({bad / rows:.1%})"
    else:
        value = found.get("observed_value")
        observed = "no values" if value is None else f"{value:.1%}" if rule.unit is Unit.SHARE else f"{value:.4g}"
    passed = bool(result.success)
    examples = () if passed or rule.such is None else _examples(connection, rule.such)
    return Finding(rule.name, passed, blocking, observed, rule.reason, examples)


def _examples(connection: duckdb.DuckDBPyConnection, such: str) -> tuple[str, ...]:
    query = f"SELECT event_id FROM measures WHERE {such} ORDER BY rowid LIMIT {_SHOWN}"  # noqa: S608 - of the suite's file
    return tuple(event_id for (event_id,) in connection.execute(query).fetchall())


def _raised(info: Mapping[str, Any]) -> str | None:
    """What went wrong inside an expectation; one entry, or one for each metric that failed."""
    for entry in [info, *(v for v in info.values() if isinstance(v, dict))]:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message"))
    return None


def _mark(finding: Finding) -> str:
    if finding.observed.startswith("not measured"):
        return "-"
    return "✓" if finding.passed else "✗\u00a0held" if finding.blocking else "!\u00a0finding"


def _cell(text: str) -> str:
    """Ids come from clients: what would break a table is escaped."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


_NUMBERS = iter(range(1_000_000_000))


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
