"""`loop tasks`: what people are asked; chosen, listed, shown. No person is named: not who decided, nor who answered."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any

import typer

from loop import config
from loop.cli import output
from loop.cli.batches import DayArgument, workflow_of
from loop.errors import BadInputError
from loop.home import open_home

tasks = typer.Typer(help="Questions for annotators: which decisions of a day are asked about.", no_args_is_help=True)
_Workflow = Annotated[str, typer.Argument(help="The workflow.")]
_SHOWN = ("label_task_id", "day", "workflow", "kind", "origin", "reason", "propensity", "wanted", "harm", "due_at")
"""Columns that say nothing of anybody."""


@tasks.command("select")
def select(  # noqa: PLR0913, PLR0917 - one argument an option
    day: DayArgument,
    workflow: _Workflow,
    acquisition: Annotated[str | None, typer.Option(help="Instead of the setting: random, mixed, ...")] = None,
    budget: Annotated[int | None, typer.Option(min=0, help="Most tasks of the day, instead of the setting.")] = None,
    red_team: Annotated[bool, typer.Option("--red-team", help="Ask for attempts to make the model misbehave.")] = False,
    json: bool = output.Json,
) -> None:
    """Choose a day's label tasks under the budget; what was asked stays asked."""
    from loop.label.select import tasks_of_day
    from loop.label.select.red_team import red_team as attempts
    from loop.label.tasks import add
    from loop.workflows import WORKFLOWS

    workflow_of(workflow)
    given = {"acquisition": acquisition, "label_budget": budget}
    settings = config.load(**{name: value for name, value in given.items() if value is not None})
    with open_home(settings) as home:
        told = tasks_of_day.build(settings, home.lake, home.state, day.date(), workflow).told()
        if red_team:
            told["red team"] = add(home.lake, home.state, attempts(WORKFLOWS[workflow], day.date())).new
    if json:
        output.emit_json({"day": day.date(), "workflow": workflow, **told})
    else:
        output.table(f"Label tasks of {workflow} on {day.date()}", ["", "count"], list(told.items()))


@tasks.command("list")
def list_(
    workflow: Annotated[str | None, typer.Option(help="Only this workflow.")] = None,
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day.")] = None,
    json: bool = output.Json,
) -> None:
    """How many tasks there are by day, workflow, kind and reason."""
    from loop.lake import Lake

    days = ((first or datetime(1, 1, 1)).date(), (last or datetime(9999, 12, 31)).date())  # noqa: DTZ001 - days alone
    columns = ("day", "workflow", "kind", "origin", "reason")
    rows = Lake(config.load().lake).read(
        "label_tasks", days=days, workflows=[workflow_of(workflow, "--workflow")] if workflow else None, columns=columns
    )
    counted = Counter(zip(*(rows[name].to_pylist() for name in columns), strict=True))
    told = [dict(zip(columns, key, strict=True)) | {"tasks": count} for key, count in sorted(counted.items())]
    if json:
        output.emit_json({"tasks": told, "total": rows.num_rows})
    else:
        output.table(
            f"{rows.num_rows} label tasks", [*columns, "tasks"], [[row[c] for c in (*columns, "tasks")] for row in told]
        )


@tasks.command("show")
def show(
    task: Annotated[str, typer.Argument(help="Id of a task, or how it begins.")],
    json: bool = output.Json,
) -> None:
    """One task as it is asked: the same for everybody who may see it, without who decided and without any answer."""
    import pyarrow.compute as pc

    from loop.lake import Lake

    lake = Lake(config.load().lake)
    ids = lake.read("label_tasks", columns=["label_task_id", "day", "workflow"])
    found = ids.filter(pc.starts_with(ids["label_task_id"], task)).to_pylist() if task else []
    if len(found) != 1:
        raise BadInputError(f"TASK: expected the id of one task, {task!r} begins {len(found)}; see loop tasks list")
    [one] = found
    rows = lake.read("label_tasks", days=(one["day"], one["day"]), workflows=[one["workflow"]])
    [row] = rows.filter(pc.equal(rows["label_task_id"], one["label_task_id"])).to_pylist()
    told: dict[str, Any] = {name: row[name] for name in (*_SHOWN, "prompt", "texts", "images", "options")}
    if json:
        output.emit_json(told)
        return
    told["prompt"] = [f"{message['role']}: {message['content']}" for message in row["prompt"]]
    output.table(f"Task {row['label_task_id']}", ["", ""], list(told.items()))
