"""Commands of the delivery path for an outside vendor."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from loop import config
from loop.cli import output
from loop.cli.batches import workflow_of
from loop.errors import BadInputError
from loop.home import open_home

vendor = typer.Typer(help="Tasks for an outside vendor, and its answers.", no_args_is_help=True)

Batch = Annotated[str, typer.Argument(help="Its id, which the export showed and the manifest names.")]


@vendor.command("plan")
def plan(
    acceptable: Annotated[float, typer.Option(help="Rate of wrong items that is good enough.")] = 0.05,
    limiting: Annotated[float, typer.Option(help="Rate of wrong items that is too bad.")] = 0.15,
    producer: Annotated[float, typer.Option(help="Risk that a good delivery is turned down.")] = 0.05,
    consumer: Annotated[float, typer.Option(help="Risk that a bad one is taken.")] = 0.10,
    json: bool = output.Json,
) -> None:
    """How many known items these risks take, and how many of them may be wrong."""
    from loop.label import acceptance

    made = acceptance.plan(acceptable=acceptable, limiting=limiting, producer=producer, consumer=consumer)
    rates = sorted({0.0, acceptable / 2, acceptable, (acceptable + limiting) / 2, limiting, min(1.0, 1.5 * limiting)})
    curve = [{"error_rate": rate, "accepted": made.accepts_at(rate)} for rate in rates]
    risks = {"producer_risk": made.producer_risk, "consumer_risk": made.consumer_risk}
    if json:
        output.emit_json({**asdict(made), **risks, "curve": curve})
        return
    output.stdout.print(f"Hide {made.inspected} known items; accept with at most {made.allowed} of them wrong.")
    rows = [[one["error_rate"], one["accepted"]] for one in curve]
    output.table("How likely a delivery is taken", ["error rate", "taken"], rows)


@vendor.command("export")
def export(  # noqa: PLR0913, PLR0917 - one an option
    folder: Annotated[Path, typer.Argument(help="An empty folder, or one to be made.")],
    name: Annotated[str, typer.Option("--vendor", help="Whom it is for.")],
    workflow: Annotated[str, typer.Option(help="Whose tasks.")],
    kind: Annotated[str, typer.Option(help="preference, rating or category.")],
    due: Annotated[datetime, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Deadline, UTC.")],
    most: Annotated[int | None, typer.Option(min=1, help="Tasks at most, drawn at random; by default all.")] = None,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of an accepted answer.")] = None,
    acceptable: Annotated[float, typer.Option(help="Rate of wrong items that is good enough.")] = 0.05,
    limiting: Annotated[float, typer.Option(help="Rate of wrong items that is too bad.")] = 0.15,
    producer: Annotated[float, typer.Option(help="Risk that a good delivery is turned down.")] = 0.05,
    consumer: Annotated[float, typer.Option(help="Risk that a bad one is taken.")] = 0.10,
    harmful: Annotated[bool, typer.Option(help="Send tasks with a warning too, with the warning.")] = False,
    again: Annotated[bool, typer.Option(help="Use known items too that this vendor had before.")] = False,
    json: bool = output.Json,
) -> None:
    """Write a masked batch of tasks, known items hidden among them, and its manifest."""
    from loop.label import acceptance
    from loop.label.tasks import Kind
    from loop.label.vendor.export import export as write

    if kind not in list(Kind):
        raise BadInputError(f"kind: expected preference, rating or category, got {kind!r}")
    settings = config.load()
    with open_home(settings) as home:
        done = write(
            settings,
            home.lake,
            home.state,
            folder,
            vendor=name,
            workflow=workflow_of(workflow, "--workflow"),
            kind=Kind(kind),
            plan=acceptance.plan(acceptable=acceptable, limiting=limiting, producer=producer, consumer=consumer),
            due_at=due.replace(tzinfo=UTC),
            now=datetime.now(UTC),
            most=most,
            price=price,
            harmful=harmful,
            again=again,
        )
    if json:
        output.emit_json({**msgspec.to_builtins(done), "folder": folder})
        return
    output.stdout.print(
        f"Batch {done.batch_id}: {done.sent:,} items in {folder}, {done.known} of them known; "
        f"{done.masked.total():,} spans of personal data were masked."
    )
    for why, count in done.left_out.most_common():
        if count:
            output.stdout.print(f"{count:,} left out: {why}")


@vendor.command("import")
def import_(
    batch: Batch,
    file: Annotated[Path, typer.Argument(help="CSV with a header, or JSON lines.")],
    json: bool = output.Json,
) -> None:
    """Store what a vendor answered. It does not count before `loop vendor accept`."""
    from loop.label.vendor.deliver import deliver

    settings = config.load()
    with open_home(settings) as home:
        author = getpass.getuser()
        done = deliver(settings, home.lake, home.state, batch, file, now=datetime.now(UTC), author=author)
    if json:
        output.emit_json(msgspec.to_builtins(done))
        return
    counts = {name: value for name, value in asdict(done).items() if isinstance(value, int)}
    output.table(f"Batch {batch}", ["", "lines"], list(counts.items()))
    for line, why in done.problems[:20]:
        output.stdout.print(f"line {line}: {why}")
    if len(done.problems) > 20:
        output.stdout.print(f"and {len(done.problems) - 20:,} more; --json lists all")


@vendor.command("accept")
def accept(batch: Batch, json: bool = output.Json) -> None:
    """Take what came back of a batch, or turn it down (exit code 1), by its answers to the known items.

    When all of it has come: what comes after it was turned down is looked at no more.
    """
    from loop.label.vendor.judge import judge

    settings = config.load()
    with open_home(settings) as home:
        verdict = judge(settings, home.lake, home.state, batch, now=datetime.now(UTC), author=getpass.getuser())
    told = {"batch": batch, "accepted": verdict.accepted, "answers": verdict.answers, **verdict.evidence}
    if json:
        output.emit_json(told)
    else:
        _show(batch, told)
    raise typer.Exit(0 if verdict.accepted else 1)


@vendor.command("status")
def status(json: bool = output.Json) -> None:
    """Every batch that was exported, what came back of it and what was decided."""
    from loop.label.vendor import ledger

    found = [
        {
            "batch": batch.batch_id,
            "vendor": batch.vendor,
            "workflow": batch.workflow,
            "kind": batch.kind,
            "items": len(batch.items),
            "known": batch.plan.inspected,
            "due_at": batch.due_at,
            "deliveries": len(batch.deliveries),
            "verdict": _verdict(batch),
        }
        for batch in ledger.batches(config.load())
    ]
    if json:
        output.emit_json({"batches": found})
    else:
        columns = ["batch", "vendor", "workflow", "kind", "items", "known", "due_at", "deliveries", "verdict"]
        output.table("Batches", columns, [[row[name] for name in columns] for row in found])


def _verdict(batch: Any) -> str:
    return "open" if not batch.verdicts else "accepted" if batch.verdicts[-1].accepted else "rejected"


def _show(batch: str, told: dict[str, Any]) -> None:
    low, high = told["interval"]
    plan = told["plan"]
    output.stdout.print(
        f"Batch {batch} is {'accepted' if told['accepted'] else 'REJECTED'}: {told['wrong']} of {told['inspected']} "
        f"known items were wrong, at most {told['allowed']} may be.\n"
        f"Error rate {told['rate']:.1%} (95 %: {low:.1%} to {high:.1%}); were it the acceptable "
        f"{plan['acceptable']:.1%}, as many or more would be wrong with probability {told['p_value']:.2g}.\n"
        f"Risks: a good delivery is turned down with {told['producer_risk']:.1%}, one of {plan['limiting']:.0%} errors "
        f"taken with {told['consumer_risk']:.1%}. {told['answers']:,} answers "
        f"{'count from now on' if told['accepted'] else 'are kept and do not count'}."
    )
    wrong = [item for item in told["items"] if item["wrong"]]
    columns = ["item", "right", "answered"]
    output.table("Wrong", columns, [[item[name] for name in columns] for item in wrong])
