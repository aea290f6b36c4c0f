"""Commands that take data away: a person's or an interaction's, and what is older than it may be kept."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from loop import config
from loop.cli import output
from loop.errors import BadInputError
from loop.home import open_home

NOTHING = 3
"""Exit code where nothing of the id was found, now or ever."""


def erase(
    employee: Annotated[str | None, typer.Option(help="The person's id, as tools send it; or a pseudonym.")] = None,
    interaction: Annotated[str | None, typer.Option(help="An event_id, or a suggestion_id and all about it.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept, so it may not hold the id.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is and which models learned it.")
    ] = False,
    json: bool = output.Json,
) -> None:
    """Erase a person, or an interaction, from every store of the home. Killed, it goes on when asked for again.

    Ends with a report. Exit code 3: nothing of that id was ever here, and nothing was changed.
    """
    from loop.erase import Kind, run, subject

    given = employee if employee is not None else interaction
    if given is None or (employee is not None and interaction is not None):
        raise BadInputError("expected one of --employee ID and --interaction ID")
    if not dry_run and reason is None:
        raise BadInputError('expected --reason "...", or --dry-run to see the reach')
    kind = Kind.EMPLOYEE if employee is not None else Kind.INTERACTION
    with open_home(config.load()) as home, output.progress("erasing") as step:
        report = run.erase(
            home,
            subject.subject(home.settings, kind, given),
            reason=reason or "",
            author=getpass.getuser(),
            dry_run=dry_run,
            step=lambda what: step(0, what=what),
        )
    if json:
        output.emit_json(asdict(report) | {"nothing": report.nothing, "dry_run": dry_run})
    else:
        _show(report, dry_run=dry_run)
    if report.nothing:
        sys.exit(NOTHING)


def _show(report: object, *, dry_run: bool) -> None:
    from loop.erase.run import Report

    assert isinstance(report, Report)
    if report.nothing:
        output.stdout.print(
            "Nothing of that id is here, and nothing ever was as far as anything tells. Nothing changed."
        )
        return
    if report.before is not None and not report.found:
        output.stdout.print(f"Nothing is left since the erasure of {report.before:%Y-%m-%d %H:%M} UTC.")
    stores = sorted({*report.found, *report.removed})
    output.table(
        "There is" if dry_run else f"Erasure {report.erasure_id}, {report.seconds:.1f} s",
        ["store", "found", *([] if dry_run else ["removed"])],
        [[s, report.found.get(s), *([] if dry_run else [report.removed.get(s)])] for s in stores],
    )
    if report.tainted:
        output.table(
            "Models that learned from erased rows" if not dry_run else "Models that learned from these rows",
            ["version", "rows", "of", "share", "through"],
            [[t["version"], t["rows"], t["of"], t["share"], t.get("ancestor")] for t in report.tainted],
        )
    for title, lines in (("To be done by others", report.to_do), ("Not reached", report.not_reached)):
        if lines and not dry_run:
            output.stdout.print(f"[bold]{title}[/bold]")
            for line in lines:
                output.stdout.print(f"- {line}")


def retain(json: bool = output.Json) -> None:
    """Drop the partitions that are older than `retention_days` allows; what is not named there is kept for ever."""
    from loop.erase import retain as drop

    with open_home(config.load()) as home, output.progress("retention") as step:
        dropped = drop(home, step=lambda what: step(0, what=what))
        days = home.settings.retention_days
    if json:
        output.emit_json({"retention_days": days, "dropped": dropped})
    else:
        output.table(
            "Partitions dropped", ["table", "kept for days", "dropped"], [[n, d, dropped[n]] for n, d in days.items()]
        )


dataset = typer.Typer(help="Frozen training sets.", no_args_is_help=True)


@dataset.command("verify")
def dataset_verify(
    digest: Annotated[str | None, typer.Argument(help="Its digest, or the beginning of it; by default all.")] = None,
    json: bool = output.Json,
) -> None:
    """Check every row against the digest; one that is gone is known by its leaf. Exit code 1 if one is not right."""
    from loop.train import dataset as sets

    settings = config.load()
    found = [path for path in sets.sets(settings.training_sets) if path.name.startswith(digest or "")]
    if digest is not None and not found:
        raise BadInputError(f"no training set {digest!r} below {settings.training_sets}")
    rows = [
        {
            "digest": path.name,
            "rows": of - lost - past,
            "erased": lost,
            "expired": past,
            "problems": sets.verify(path),
        }
        for path in found
        for (lost, of), past in [(sets.erased(path), sets.expired(path))]
    ]
    if json:
        output.emit_json({"training_sets": rows})
    else:
        columns = ["digest", "rows", "erased", "expired", "problems"]
        output.table("Training sets", columns, [[row[name] for name in columns] for row in rows])
    if any(row["problems"] for row in rows):
        sys.exit(1)
