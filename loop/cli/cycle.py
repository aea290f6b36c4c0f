"""`loop cycle`: the data jobs over what has landed in a range of days, then one learning cycle and its decision."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from loop import config, schema
from loop import cycle as stages
from loop.cli import output
from loop.collect import arrivals
from loop.errors import BadInputError
from loop.home import Home, open_home


def cycle(
    first: Annotated[datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day.")],
    last: Annotated[datetime, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, and the cycle.")],
    workflow: Annotated[list[str] | None, typer.Option(help="Only this workflow; may be repeated.")] = None,
    json: bool = output.Json,
) -> None:
    """Run the data jobs from day to day, then one learning cycle at --to, ending in a release decision."""
    from loop.cli.dagster import orchestrator

    workflows = check_workflows(workflow)
    start, end = first.date(), last.date()
    if start > end:
        raise BadInputError(f"--from {start} is after --to {end}")
    if start < schema.FIRST_DAY or end > datetime.now(UTC).date():
        raise BadInputError(f"expected days from {schema.FIRST_DAY} to today, got --from {start} --to {end}")
    settings = config.load()
    with open_home(settings) as home, contextlib.ExitStack() as stack:
        partitions = arrivals.partitions(home.state, start, end, workflows)
        if not partitions:
            raise BadInputError(
                f"nothing has landed from {start} to {end} for {', '.join(workflows)}: `loop import` first"
            )
        dagster = stack.enter_context(orchestrator(settings))
        with output.progress("data", len(partitions)) as step:
            for done, (day, flow) in enumerate(partitions, 1):
                dagster.data(day, flow)
                step(done)
        with output.progress(f"learning cycle {end}", 2) as step:
            dagster.learn(end)
            step(1)
            dagster.decide(end)
        result = told(home, start, end, workflows)
    if json:
        output.emit_json(result)
        return
    columns = ["day", "workflow", "status", "rows", "quarantined"]
    output.table("Batches", columns, [[b[k] for k in columns] for b in result["batches"]])
    output.table("Training set", ["", ""], list(result["training"].items()))
    output.table("Release", ["", ""], list(result["release"].items()))


def check_workflows(given: list[str] | None, among: Sequence[str] = schema.WORKFLOWS) -> tuple[str, ...]:
    """The workflows named, in the schema's order; all where none is named."""
    for name in given or ():
        if name not in among:
            raise BadInputError(f"--workflow: expected one of {', '.join(among)}, got {name!r}")
    return tuple(name for name in among if not given or name in given)


def told(home: Home, first: date, last: date, workflows: tuple[str, ...]) -> dict[str, Any]:
    """The JSON of `loop cycle`, read back from what the stages wrote."""
    batches = home.state.batches(first, last, workflows)
    training = stages.latest(home, "training_sets", last)
    release = stages.latest(home, "releases", last)
    return {
        "batches": [
            {k: b[k] for k in ("day", "workflow", "status", "rows", "quarantined", "reasons")} for b in batches
        ],
        "training": {k: training[k] for k in ("digest", "demonstrations", "preferences", "attempt")},
        "release": {
            k: release[k] for k in ("cycle", "attempt", "challenger", "champion_before", "decision", "reasons", "live")
        },
    }
