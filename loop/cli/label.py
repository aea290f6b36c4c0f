"""`loop label`: labels that machines make (labelling functions, synthetic rows), and what labels cost by source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any

import typer

from loop import config
from loop.cli import output
from loop.cli.batches import workflow_of
from loop.home import open_home

label = typer.Typer(help="Labels that machines make, and what labels cost by source.", no_args_is_help=True)
_Workflow = Annotated[str, typer.Argument(help="The workflow.")]
_From = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day; all by default.")]
_To = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")]


@label.command("functions")
def functions(workflow: _Workflow, first: _From = None, last: _To = None, json: bool = output.Json) -> None:
    """Let the workflow's labelling functions answer its tasks, and say how far they cover, overlap and conflict."""
    from loop.label.functions import functions_of, run
    from loop.workflows import WORKFLOWS

    name = workflow_of(workflow)
    with open_home(config.load()) as home:
        ran = run(home.lake, home.state, name, _days(first, last), author="loop label functions")
    meanings = {f.name: f.meaning for f in functions_of(WORKFLOWS[name])}
    rows = [asdict(found) | {"meaning": meanings[found.function]} for found in ran.analysis]
    told: dict[str, Any] = {
        "workflow": name,
        "tasks": ran.votes.tasks,
        "votes": ran.votes.rows.num_rows,
        "new": ran.recorded.new + ran.recorded.changed - ran.withdrawn,
        "withdrawn": ran.withdrawn,
        "raised": {f"{function}: {error}": count for (function, error), count in ran.votes.raised.items()},
        "refused": dict(ran.recorded.refused),
    }
    if json:
        output.emit_json(told | {"functions": rows})
        return
    columns = ["function", "polarity", "coverage", "overlaps", "conflicts", "correct", "incorrect", "accuracy"]
    _show(f"{name}: {ran.votes.rows.num_rows} votes on {ran.votes.tasks} tasks", columns, rows)
    output.table("Answers", ["", "count"], [[k, told[k]] for k in ("new", "withdrawn")])
    output.table("Raised, hence abstained", ["function", "times"], list(told["raised"].items()))


def _show(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    output.table(title, columns, [[row[c] for c in columns] for row in rows])


def _days(first: datetime | None, last: datetime | None) -> tuple[date, date]:
    return (first or datetime(1, 1, 1)).date(), (last or datetime(9999, 12, 31)).date()  # noqa: DTZ001 - days alone
