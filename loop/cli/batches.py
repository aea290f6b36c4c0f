"""Commands on verdicts: the suites that give them, what is held, and a person's word against it."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import Annotated

import typer

from loop import config, schema
from loop.cli import output
from loop.errors import BadInputError, LoopError
from loop.home import open_home

hold = typer.Typer(
    help="Batches that their suite, or their distance from the days before, has halted.", no_args_is_help=True
)
suites = typer.Typer(help="The rules by which a batch is judged, as files.", no_args_is_help=True)

DayArgument = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="The day of the batch.")]


def workflow_of(name: str, what: str = "WORKFLOW") -> str:
    """The name of a workflow that there is."""
    if name not in schema.WORKFLOWS:
        raise BadInputError(f"{what}: expected one of {', '.join(schema.WORKFLOWS)}, got {name!r}")
    return name


@hold.command("list")
def hold_list(json: bool = output.Json) -> None:
    """What is held, and why."""
    from loop.validate import verdicts

    with open_home(config.load()) as home:
        found = verdicts.held(home.state)
    if json:
        output.emit_json({"held": found})
        return
    columns = ["day", "workflow", "rows", "quarantined", "attempt", "reasons"]
    output.table(f"{len(found)} held", columns, [[batch[name] for name in columns] for batch in found])
    if found:
        hint = 'Mend it and run its data job again, or: loop hold release DAY WORKFLOW --reason "..."'
        output.stdout.print(hint, soft_wrap=True)


@hold.command("release")
def hold_release(
    day: DayArgument,
    workflow: Annotated[str, typer.Argument(help="Its workflow.")],
    reason: Annotated[str, typer.Option(help="Why it may be learned from all the same; it stays with the batch.")],
    json: bool = output.Json,
) -> None:
    """Let a held batch through, with author, time and reason; then run its data job again."""
    from loop.collect import arrivals
    from loop.validate import verdicts

    workflow_of(workflow)
    with open_home(config.load()) as home:
        verdict = verdicts.release(home.state, day.date(), workflow, reason=reason, author=getpass.getuser())
        more = (day.date(), workflow) in dict(arrivals.unread(home.state))
    if json:
        output.emit_json(verdict | {"more_has_landed": more})
        return
    told = f"{verdict['day']} {verdict['workflow']} is let through by {verdict['author']}: {reason}"
    output.stdout.print(told, soft_wrap=True)
    if more:
        output.stdout.print("More has landed since it was judged: its next run judges it anew.", soft_wrap=True)


@suites.command("list")
def suites_list(json: bool = output.Json) -> None:
    """The suites, their versions and digests."""
    from loop.validate import suites as of_batches

    found = [of_batches.load(workflow) for workflow in schema.WORKFLOWS]
    if json:
        told = [
            {"workflow": s.workflow, "version": s.version, "digest": s.digest, "rules": len(s.rules)} for s in found
        ]
        output.emit_json({"suites": told})
        return
    rows = [[s.workflow, s.version, s.digest, len(s.rules)] for s in found]
    output.table("Suites", ["workflow", "version", "digest", "rules"], rows)


@suites.command("show")
def suites_show(
    workflow: Annotated[str, typer.Argument(help="The workflow.")],
    json: bool = output.Json,
) -> None:
    """The rules of a workflow's batches, each with its severity and the reason for its bound."""
    from loop.validate import suites as of_batches

    suite = of_batches.load(workflow_of(workflow))
    if json:
        rules = [{"rule": r.name, "severity": r.severity, "reason": r.reason} for r in suite.rules]
        output.emit_json({"suite": suite.name, "version": suite.version, "digest": suite.digest, "rules": rules})
        return
    rows = [[r.name, r.severity, r.reason] for r in suite.rules]
    output.table(suite.title, ["rule", "severity", "why"], rows)


@suites.command("write")
def suites_write(
    check: Annotated[bool, typer.Option(help="Only say whether the files are in step with the code.")] = False,
    json: bool = output.Json,
) -> None:
    """Write the suites' files anew from the code; a suite whose rules changed gets the next version."""
    from loop.validate import suites as of_batches

    outcome = of_batches.write(check=check)
    behind = [workflow for workflow, told in outcome.items() if told == "differs"]
    if behind:
        raise LoopError(f"{', '.join(behind)}: expected files that are in step with the code; run `loop suites write`")
    if json:
        output.emit_json({"suites": outcome})
    else:
        output.table("Suites", ["workflow", "file"], list(outcome.items()))
