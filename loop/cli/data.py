"""Commands on data: bring it in, look at it, say how things stand."""

from __future__ import annotations

import time
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from loop import config, lake, schema
from loop.cli import output
from loop.collect.imported import Imported
from loop.errors import BadInputError
from loop.home import Home, open_home

_EVERY = (schema.FIRST_DAY, date(9999, 12, 31))


class Source(StrEnum):
    """Formats that `loop import` reads."""

    JSONL = "jsonl"
    COAUTHOR = "coauthor"
    CUPS = "cups"
    OTEL = "otel"
    LANGFUSE = "langfuse"
    MLFLOW = "mlflow"


def import_(  # noqa: PLR0913, PLR0917 - each is an option of the command
    source: Annotated[
        Source,
        typer.Argument(
            help="jsonl: our own events. coauthor: the CoAuthor archive or folder. cups: the CUPS file of derived "
            "events. otel: traces (and logs) in OTLP's JSON. langfuse: its exports of traces with scores. mlflow: "
            "traces of MLflow 3 with assessments."
        ),
    ],
    path: Annotated[Path, typer.Argument(help="A file, or a folder where the source reads folders.")],
    sessions: Annotated[
        Path | None,
        typer.Option(help="coauthor: the CSV of sessions; by default the one of the same stem beside PATH."),
    ] = None,
    workflow: Annotated[
        str | None,
        typer.Option(help="otel, langfuse, mlflow: the workflow of the traces that do not name theirs."),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help="otel, langfuse, mlflow: NAME=DOWN:UP, a score that people give, and what its values mean: stars=2:4 "
            "rejects up to 2 and accepts from 4 on. A number has no side without it. May be given several times."
        ),
    ] = None,
    json: bool = output.Json,
) -> None:
    """Read outside data into the landing area. The same file twice changes nothing.

    Traces become decisions where a person's feedback is on them, for training and evaluation alike unless they say
    otherwise (loop.purposes). Those that nobody judged are counted as unrated.
    """
    from loop.collect import sources
    from loop.collect.sources import verdicts
    from loop.validate import contract

    if sessions is not None and source is not Source.COAUTHOR:
        raise BadInputError(f"--sessions goes with coauthor, got {source}")
    if (workflow is not None or score) and source.value not in sources.TRACES:
        raise BadInputError(f"--workflow and --score go with {', '.join(sources.TRACES)}, got {source}")
    reading = verdicts.reading(workflow, score or ())
    settings = config.load()
    start = time.perf_counter()
    with open_home(settings) as home, output.progress(f"importing {path.name}") as step:
        done = sources.read(
            source.value,
            path,
            settings,
            home.lake,
            home.state,
            contract=contract.split,
            sessions=sessions,
            reading=reading,
            progress=step,
        )
    if not done.read and not done.unrated and not done.skipped:
        raise BadInputError(f"{path}: expected at least one event, got none")
    result = {**done.told(), "seconds": round(time.perf_counter() - start, 3)}
    if json:
        output.emit_json(result)
        return
    _show(source, path, done, result)


def _show(source: Source, path: Path, done: Imported, result: dict[str, Any]) -> None:
    """What an import came to, for people."""
    counts = [[k, v] for k, v in result.items() if k not in {"partitions", "reasons", "skipped", "masked"}]
    output.table(f"{source} {path.name}", ["", ""], counts)
    if done.masked:
        output.table("Masked", ["personal data", "spans"], list(done.masked.items()))
    if done.skipped:
        output.table("Feedback that is no decision of a person", ["kind", "pieces"], list(done.skipped.items()))
    if done.reasons:
        output.table("Set aside", ["reason", "rows"], list(done.reasons.items()))
        hint = 'What each should have been: loop sql "SELECT path, line, explanation FROM quarantine"'
        output.stdout.print(hint, soft_wrap=True)  # in one piece, to be copied
    if done.read == done.quarantined > 0:
        output.stdout.print("Nothing was accepted: every row was set aside.")
    elif not done.read:
        output.stdout.print("No person's feedback is in it: nothing was imported.")
    elif done.unchanged:
        output.stdout.print("Nothing is new: every row was here already.")


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables; see docs/tables.md.")],
    json: bool = output.Json,
) -> None:
    """Ask anything of all tables with DuckDB; read-only."""
    import duckdb

    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise BadInputError(f"expected one SELECT: {error}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(s.type.name for s in statements) or "nothing"
        raise BadInputError(f"expected one SELECT, got {kinds}; `loop sql` only reads")
    with open_home(config.load()) as home:
        # Only the tables of the state that the query may name are fetched: event_index grows with history.
        state = {name: home.state.arrow(name) for name in schema.STATE if name in query.lower()}
        try:
            with lake.connect(home.lake, state) as connection:
                found = connection.execute(query)
                names = [column[0] for column in found.description or ()]
                rows = found.fetchall()
        except duckdb.Error as error:
            raise BadInputError(str(error)) from None
    if json:
        output.emit_json({"rows": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        output.table(f"{len(rows)} rows", names, rows)


def status(json: bool = output.Json) -> None:
    """Champion, data per partition, what is held and why, the last decisions."""
    with open_home(config.load()) as home:
        result = _status(home)
    if json:
        output.emit_json(result)
        return
    champion = result["champion"]
    output.stdout.print(
        f"[bold]Champion[/bold] {champion['version']} since {champion['cycle']}" if champion else "No champion yet"
    )
    if champion and champion["tainted"]:
        output.stdout.print("It learned from rows that were erased since; the next cycle trains without them.")
    output.table(
        "Data (the last 40 partitions)",
        ["day", "workflow", "status", "rows", "quarantined"],
        [[b["day"], b["workflow"], b["status"], b["rows"], b["quarantined"]] for b in result["batches"][-40:]],
    )
    if result["held"]:
        output.table(
            "Held", ["day", "workflow", "why"], [[b["day"], b["workflow"], b["reasons"]] for b in result["held"]]
        )
    output.table(
        "Last decisions",
        ["cycle", "attempt", "challenger", "champion before", "decision", "reasons"],
        [
            [r[k] for k in ("cycle", "attempt", "challenger", "champion_before", "decision", "reasons")]
            for r in result["releases"]
        ],
    )


def _status(home: Home) -> dict[str, Any]:
    from loop.release import releases, taints

    batches = home.state.batches(*_EVERY)
    shown = [
        {k: b[k] for k in ("day", "workflow", "status", "rows", "quarantined", "attempt", "reasons")} for b in batches
    ]
    version = releases.champion_now(home.state)
    champion = None if version is None else releases.model_version(home.state, version)
    decided = home.state.arrow("releases").to_pylist()[-10:]
    return {
        "home": str(home.settings.home),
        "champion": champion
        and {"version": champion.version, "cycle": champion.cycle, "tainted": version in taints.tainted(home.state)},
        "batches": shown,
        "held": [b for b in shown if b["status"] == schema.BatchStatus.HELD],
        "releases": [{k: v for k, v in r.items() if k != "evidence"} for r in decided],
    }
