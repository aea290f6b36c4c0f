"""Commands on rows that were set aside: what they are, run through the contract again, dropped."""

from __future__ import annotations

import getpass
import json as jsons
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any

import pyarrow as pa
import typer

from loop import config
from loop.cli import output
from loop.errors import BadInputError
from loop.home import Home, open_home

quarantine = typer.Typer(help="Rows that broke the contract, kept whole with their reasons.", no_args_is_help=True)

Id = Annotated[str | None, typer.Argument(help="A row's quarantine_id, or the event_id it came with.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only rows of this day.")]
Workflow = Annotated[str | None, typer.Option(help="Only rows of this workflow; `unplaced` for those that named none.")]
Breach = Annotated[str | None, typer.Option(help="Only rows with this among their reasons, such as final_text.")]
Why = Annotated[str, typer.Option("--reason", help="Why, in a sentence; it stays with the row.")]
LISTED = 50


@quarantine.command("list")
def list_(
    day: Day = None,
    workflow: Workflow = None,
    breach: Breach = None,
    limit: Annotated[int, typer.Option(min=1, help="So many rows are shown; all are counted.")] = LISTED,
    json: bool = output.Json,
) -> None:
    """What is in quarantine and why; no row's text. `show` shows one."""
    from loop.validate import replay

    with open_home(config.load()) as home:
        rows = replay.find(home.lake, day=day and day.date(), workflow=workflow, breach=breach)
    columns = ["quarantine_id", "event_id", "day", "workflow", "source", "reasons", "explanation"]
    shown = rows.select(columns).slice(0, limit).to_pylist()
    reasons = [reason[0] for reason in rows["reasons"].to_pylist()]
    counted = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
    if json:
        output.emit_json({"rows": rows.num_rows, "reasons": counted, "shown": shown})
        return
    for row in shown:  # a line each, whole: ids are there to be copied
        told = f"{row['quarantine_id']}  {row['day']} {row['workflow']}  {row['explanation']}"
        output.stdout.print(told, soft_wrap=True, markup=False, highlight=False)
    if rows.num_rows > len(shown):
        output.stdout.print(f"... and {rows.num_rows - len(shown)} more: --limit, --json")
    output.stdout.print(f"{rows.num_rows} rows in quarantine")
    if counted:
        output.table("By main reason", ["reason", "rows"], list(counted.items()))


@quarantine.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="A quarantine_id, or the event_id it came with.")],
    json: bool = output.Json,
) -> None:
    """One row as it came, with what was expected of it. It may hold what people wrote: mind who sees your terminal."""
    from loop.validate import replay

    with open_home(config.load()) as home:
        rows = replay.one(home.lake, home.state, name).to_pylist()
    if json:
        output.emit_json({"rows": rows})
        return
    for row in rows:
        told = [[key, value] for key, value in row.items() if key != "raw"]
        output.table(row["quarantine_id"], ["", ""], told)
        output.stdout.print(_pretty(row["raw"]), markup=False, highlight=False, soft_wrap=True)


@quarantine.command("replay")
def replay_(  # noqa: PLR0913, PLR0917 - each is an option of the command
    reason: Why,
    name: Id = None,
    day: Day = None,
    workflow: Workflow = None,
    breach: Breach = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=JSON: what is stated to be true instead, such as dwell_ms=1200."),
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(help="FIELD that is to be left out.")] = None,
    json: bool = output.Json,
) -> None:
    """Run rows through the contract again; what keeps it now lands under its own id, the rest stays.

    What was mended is either the contract or a source's reading of its format, or it is stated here with --set. The
    data job of the days that are named afterwards makes batches of what has landed.
    """
    from loop.validate import replay

    correction = replay.Correction(dict(map(_assignment, set_ or ())), tuple(unset or ()))
    with open_home(config.load()) as home:
        rows = _chosen(home, name, day and day.date(), workflow, breach)
        done = replay.replay(
            home.settings, home.lake, home.state, rows, reason=reason, author=getpass.getuser(), correction=correction
        )
    if json:
        output.emit_json(
            {
                "rows": done.rows,
                "replayed": done.replayed,
                "duplicates": done.duplicates,
                "stayed": [
                    {
                        "quarantine_id": s.quarantine_id,
                        "event_id": s.event_id,
                        "reason": s.reason,
                        "told": s.explanation,
                    }
                    for s in done.stayed
                ],
                "partitions": [{"day": d, "workflow": w} for d, w in done.partitions],
            }
        )
        return
    output.stdout.print(f"{done.replayed} of {done.rows} rows have landed, {done.duplicates} had landed already.")
    stayed = [[s.quarantine_id, s.event_id, s.reason, s.explanation] for s in done.stayed[:LISTED]]
    if stayed:
        output.table(f"{len(done.stayed)} stay", ["quarantine_id", "event_id", "reason", "told"], stayed)
    for changed, of in done.partitions:
        output.stdout.print(f"Next: loop cycle --from {changed} --to {changed} --workflow {of}", soft_wrap=True)


@quarantine.command("drop")
def drop(  # noqa: PLR0913, PLR0917 - each is an option of the command
    reason: Why,
    name: Id = None,
    day: Day = None,
    workflow: Workflow = None,
    breach: Breach = None,
    json: bool = output.Json,
) -> None:
    """Take rows out of quarantine for good. What was sent is still known when it comes again."""
    from loop.validate import replay

    with open_home(config.load()) as home:
        rows = _chosen(home, name, day and day.date(), workflow, breach)
        author = getpass.getuser()
        count = replay.drop(home.settings, home.lake, home.state, rows, reason=reason, author=author)
    if json:
        output.emit_json({"dropped": count})
    else:
        output.stdout.print(f"{count} rows are dropped by {author}: {reason}")


def _chosen(home: Home, name: str | None, day: date | None, workflow: str | None, breach: str | None) -> pa.Table:
    """The rows of an id, or of filters, of which there must be one."""
    from loop.validate import replay

    filters: Sequence[object] = (day, workflow, breach)
    if name is not None and any(each is not None for each in filters):
        raise BadInputError("expected an ID or filters, got both")
    if name is not None:
        return replay.one(home.lake, home.state, name)
    if all(each is None for each in filters):
        raise BadInputError("expected an ID, or one of --day, --workflow and --breach")
    rows = replay.find(home.lake, day=day, workflow=workflow, breach=breach)
    if not rows.num_rows:
        raise BadInputError("expected rows in quarantine that fit, got none; see `loop quarantine list`")
    return rows


def _assignment(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise BadInputError(f"--set: expected FIELD=JSON, got {given!r}")
    try:
        return name, jsons.loads(value)
    except ValueError:
        raise BadInputError(f"--set {name}: expected JSON, a text in quotes, got {value!r}") from None


def _pretty(raw: str) -> str:
    try:
        return jsons.dumps(jsons.loads(raw), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return raw
