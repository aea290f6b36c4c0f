"""`loop run`: the closed circle in the simulated organisation, day after day, through the same jobs as real work."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from loop import config, schema
from loop.cli import output
from loop.cli.cycle import check_workflows
from loop.cli.stopwatch import Stopwatch
from loop.home import open_home


class Control(StrEnum):
    """Runs that must show no gain, for the gain of the real one to mean anything."""

    NONE = "none"
    FROZEN = "frozen"
    """Nothing is trained."""
    SHUFFLED = "shuffled"
    """Decisions are permuted within a workflow before they are sent."""


class Conduct(StrEnum):
    """How the people who decide go about it; the panel is honest."""

    CLEAN = "clean"
    """Everybody honestly."""
    CONTAMINATED = "contaminated"
    """Half of them not: unread, by script, or against the loop."""
    MIXED = "mixed"
    """Some of every kind, fast experts among them."""


@dataclass(frozen=True)
class World:
    """What is simulated. A home holds one world: `loop run` again goes on with it."""

    seed: int
    employees: int
    workflows: tuple[str, ...]
    edits: bool
    control: Control
    conduct: Conduct = Conduct.CLEAN
    annotators: int = 0


def run(  # noqa: PLR0913, PLR0917 - one argument an option
    days: Annotated[int, typer.Option(min=1, help="Days to simulate, after those that this home has.")] = 5,
    workflow: Annotated[list[str] | None, typer.Option(help="Only this workflow; may be repeated.")] = None,
    employees: Annotated[int, typer.Option(min=4, help="People who decide.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the world: what fits what, and who works there.")] = 0,
    control: Annotated[Control, typer.Option(help="A run that must show no gain.")] = Control.NONE,
    conduct: Annotated[Conduct, typer.Option(help="How people go about deciding.")] = Conduct.CLEAN,
    annotators: Annotated[
        int, typer.Option(min=0, help="People hired for each workflow to answer label tasks; none in a control.")
    ] = 4,
    edits: Annotated[bool, typer.Option(help="Whether people may edit; without, they reject instead.")] = True,
    final_items: Annotated[int, typer.Option(min=1, help="Unseen prompts per workflow on which it ends.")] = 500,
    through_gateway: Annotated[
        bool, typer.Option("--through-gateway", help="People ask and tell over HTTP, as tools at work do.")
    ] = False,
    json: bool = output.Json,
) -> None:
    """Run the closed circle in the simulated organisation: serve, decide, validate, label, train, compare, release."""
    from loop.cli import channel
    from loop.cli.circle import Circle
    from loop.cli.dagster import orchestrator

    watch = Stopwatch()
    settings = config.load()
    workflows = check_workflows(workflow, schema.BUILT_IN)
    hired = annotators if control is Control.NONE else 0  # honest labels would teach what a control must not know
    world = World(seed, employees, workflows, edits, control, conduct, hired)
    with contextlib.ExitStack() as stack:
        with watch.stage("services"):
            home = stack.enter_context(open_home(settings))
        dagster = stack.enter_context(orchestrator(settings, watch, warm=True))
        circle = Circle(home, dagster, world, watch)
        with output.progress("the base model", days + 2) as step:
            circle.begin()
            if through_gateway:
                with watch.stage("services"):
                    circle.channel = stack.enter_context(channel.through_gateway(home, dagster, circle.organisation))
            shown = []
            for done, day in enumerate(circle.next_days(days), 1):
                step(done, days + 2, f"{day}")
                shown += circle.day(day)
            step(days + 1, days + 2, "the unseen prompts")
            final = circle.final(final_items)
        releases = circle.releases()
        watch.switch("services")  # which stop now
    result = {"days": shown, "releases": releases, "final": final, "seconds": watch.told()}
    if json:
        output.emit_json(result)
    else:
        show(result, settings)


def show(result: dict[str, Any], settings: config.Settings) -> None:
    """The scoreboard, and where to look."""
    workflows = list(dict.fromkeys(row["workflow"] for row in result["days"]))
    by_day: dict[Any, dict[str, dict[str, Any]]] = {}
    for row in result["days"]:
        by_day.setdefault(row["day"], {})[row["workflow"]] = row
    output.table(
        "Acceptance by day (accepted / everything shown)",
        ["day", "model", *workflows],
        [
            [day, next(iter(rows.values()))["model_version"], *(rows[w]["acceptance"] for w in workflows)]
            for day, rows in by_day.items()
        ],
    )
    columns = ["cycle", "challenger", "champion_before", "decision", "reasons"]
    output.table("Releases", columns, [[r[c] for c in columns] for r in result["releases"]])
    columns = ["workflow", "items", "base", "champion", "constant"]
    output.table(
        "True utility on unseen prompts (0 a random answer, 1 the best)",
        columns,
        [[row[c] for c in columns] for row in result["final"]],
    )
    seconds = result["seconds"]
    output.table("Seconds", ["stage", "wall", "cpu"], [[name, s["wall"], s["cpu"]] for name, s in seconds.items()])
    output.stdout.print(
        f"Everything is in {settings.home}. `loop up` shows the runs, checks and models in a browser; "
        "`loop status` and `loop sql` answer here."
    )
