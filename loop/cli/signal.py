"""`loop signal`: how much decisions say; of a person to that person alone, of groups of ten or more to everybody."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any

import typer

from loop import config, schema
from loop.cli import output
from loop.errors import BadInputError
from loop.home import open_home

signal = typer.Typer(
    help="How much decisions say: for weighting data, never for judging staff (docs/signal.md).", no_args_is_help=True
)
_Workflow = Annotated[str, typer.Argument(help="The workflow.")]
_From = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day; 28 days by default.")]
_To = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day; the last with data.")]


@signal.command("groups")
def groups(workflow: _Workflow, first: _From = None, last: _To = None, json: bool = output.Json) -> None:
    """Weights by day and team, of groups of ten or more people."""
    from loop.validate import signal_told

    with open_home(config.load()) as home:
        rows = signal_told.groups(home.lake, _days(home.lake, workflow, first, last), workflow)
    if json:
        output.emit_json({"workflow": workflow, "groups": rows})
    else:
        columns = ["group", "day", "people", "decisions", "accepted", "mean_weight", "distrusted"]
        output.table(f"{workflow}: groups of ten or more", columns, [[row[c] for c in columns] for row in rows])


@signal.command("report")
def report(workflow: _Workflow, first: _From = None, last: _To = None, json: bool = output.Json) -> None:
    """Places and how often they are looked at, hasty decisions, and what the weights change."""
    from loop.label.derive import derive
    from loop.privacy import GROUP
    from loop.validate import signal as weighing
    from loop.validate import signal_days, signal_report

    with open_home(config.load()) as home:
        days = _days(home.lake, workflow, first, last)
        rows = home.lake.read("interactions", days=days, workflows=[workflow])
    if not rows.num_rows:
        raise BadInputError(
            f"no interactions of {workflow} from {days[0]} to {days[1]}: `loop status` lists what is there"
        )
    found = weighing.judge(rows)
    pairs: dict[str, Any] = {"held_out_share": 0.0, "tables": ("preferences",)}
    weighed = derive(rows, **pairs, signals=signal_days.signals_of(rows, found)).preferences
    told = signal_report.report(found, weighed, derive(rows, **pairs).preferences)
    if told is None:
        raise BadInputError(f"{workflow}: fewer than {GROUP} people from {days[0]} to {days[1]}; nothing is told")
    if json:
        output.emit_json({"workflow": workflow, "from": days[0], "to": days[1], **told.told()})
        return
    _show(workflow, told.told())


@signal.command("own")
def own(
    employee: Annotated[
        str, typer.Option(prompt="Your own employee id", hide_input=True, help="Your own id, as your tools send it.")
    ],
    json: bool = output.Json,
) -> None:
    """What is held of your own decisions, and why. Nobody else is shown it."""
    from loop.collect import events
    from loop.validate import signal_told

    settings = config.load()
    with open_home(settings) as home:
        rows = signal_told.own(home.lake, events.pseudonyms(employee, settings))
    if not rows:
        raise BadInputError("nothing is known under this id in the last 28 days with data")
    if json:
        output.emit_json({"own": rows})
    else:
        columns = ["day", "workflow", "decisions", "mean_weight", "trust", "reasons"]
        output.table("Your own decisions", columns, [[row[c] for c in columns] for row in rows])


def _show(workflow: str, told: dict[str, Any]) -> None:
    columns = ["place", "shown", "taken", "by_chance", "examination"]
    output.table(f"{workflow}: places", columns, [[place[c] for c in columns] for place in told["places"]])
    output.table("Decisions that took less", ["than", "share"], list(told["instant"].items()))
    plain = ("decisions", "people", "mean_weight", "distrusted", "agreement")
    output.table("Weights", ["", ""], [*((name, told[name]) for name in plain), *told["reasons"].items()])
    names = ["pairs", "worth", "earlier", "longer", "more probable"]
    output.table(
        "Pairs of a choice",
        ["", *names],
        [[kind, *(pairs.get(n) for n in names)] for kind, pairs in told["pairs"].items()],
    )
    for group in told["groups"]:
        output.stdout.print(f"Says nothing: {group}")


def _days(lake: Any, workflow: str, first: datetime | None, last: datetime | None) -> tuple[date, date]:
    if workflow not in schema.WORKFLOWS:
        raise BadInputError(f"WORKFLOW: expected one of {', '.join(schema.WORKFLOWS)}, got {workflow!r}")
    there = [day for day, name in lake.partitions("interactions") if name == workflow]
    end = last.date() if last else there[-1] if there else date.today()  # noqa: DTZ011 - nothing is there: any day
    start = first.date() if first else end - timedelta(days=27)
    if start > end:
        raise BadInputError(f"--from {start} is after --to {end}")
    return start, end
