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
from loop.errors import BadInputError
from loop.home import Home, open_home

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


@label.command("synthesize")
def synthesize(  # noqa: PLR0913, PLR0917 - one argument an option
    workflow: _Workflow,
    by: Annotated[str, typer.Option(help="What cuts the workflow into slices: team, region or task_id.")] = "team",
    answers: Annotated[int, typer.Option(min=1, help="Answers to each prompt, of which at most one is kept.")] = 4,
    most: Annotated[int, typer.Option(min=1, help="Most prompts that are answered.")] = 200,
    first: _From = None,
    last: _To = None,
    json: bool = output.Json,
) -> None:
    """Let a model write answers where real ones are few; keep what passes, and note whether it helps."""
    from loop.cycle.synthesising import synthesise

    name = workflow_of(workflow)
    with open_home(config.load()) as home:
        days = _with_data(home, name, first, last)
        done = synthesise(home, name, days, by=by, n=answers, most=most)
    told = done.told()
    if json:
        output.emit_json({"workflow": name, **told})
        return
    output.table(f"Thin slices of {name}", ["slice", "demonstrations"], list(done.thin.items()))
    plain = ("model_version", "parents", "answered", "written", "kept", "dropped", "gone")
    output.table("Written", ["", ""], [[k, told[k]] for k in plain])
    output.table("Dropped", ["because", "answers"], list(done.reasons.items()))
    if told["ablation"]:
        output.table("With them and without", ["", ""], list(told["ablation"].items()))


@label.command("prongs")
def prongs(workflow: _Workflow, first: _From = None, last: _To = None, json: bool = output.Json) -> None:
    """Feedback from the floor against annotators' answers: what each source gave, cost and teaches."""
    from loop.label.prongs import compare

    name = workflow_of(workflow)
    with open_home(config.load()) as home:
        found = compare(home.settings, home.lake, home.state, name, _with_data(home, name, first, last))
        currency = home.settings.pay_currency
    rows = [asdict(source) for source in found.sources]
    told = {k: v for k, v in asdict(found).items() if k != "sources"}
    if json:
        output.emit_json({"workflow": name, "currency": currency, **told, "sources": rows})
        return
    columns = ["source", "answers", "people", "cost", "pairs", "cost_of_pairs", "agreement", "low", "high", "on_gold"]
    columns += ["gain_per_cost"]
    _show(f"{name}: cost in {currency}; {found.held_out} held-out preferences", columns, rows)


def _with_data(home: Home, workflow: str, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    """The days that are meant; by default the window of a cycle, up to the last day with labels."""
    from loop.cycle.reading import window

    there = [day for day, name in home.lake.partitions("demonstrations") if name == workflow]
    if last is None and not there:
        raise BadInputError(f"{workflow}: nothing is labelled yet; `loop status` says what there is")

    earliest, end = window(home, last.date() if last else there[-1])
    return first.date() if first else earliest, end


def _show(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    output.table(title, columns, [[row[c] for c in columns] for row in rows])


def _days(first: datetime | None, last: datetime | None) -> tuple[date, date]:
    return (first or datetime(1, 1, 1)).date(), (last or datetime(9999, 12, 31)).date()  # noqa: DTZ001 - days alone
