"""The application: every command by name, and the one place where errors become exit codes."""

from __future__ import annotations

import json
import logging
import os
import sys

import typer

from loop import __version__
from loop.cli import (
    annotators,
    answers,
    batches,
    cycle,
    data,
    erase,
    gateway,
    label,
    privacy,
    quarantine,
    run,
    service,
    signal,
    studio,
    tasks,
    vendor,
)
from loop.errors import BadInputError, LoopError

app = typer.Typer(
    name="loop",
    help="A closed post-training loop: decisions at work become better models, gated, traced and erasable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("import")(data.import_)
app.command("cycle")(cycle.cycle)
app.command("status")(data.status)
app.add_typer(batches.hold, name="hold")
app.add_typer(batches.suites, name="suites")
app.add_typer(quarantine.quarantine, name="quarantine")
app.add_typer(signal.signal, name="signal")
app.add_typer(label.label, name="label")
app.add_typer(tasks.tasks, name="tasks")
app.add_typer(annotators.annotators, name="annotators")
app.add_typer(answers.answers, name="answers")
app.add_typer(annotators.gold, name="gold")
app.add_typer(annotators.appeals, name="appeals")
app.command("sql")(data.sql)
app.command("erase")(erase.erase)
app.command("retain")(erase.retain)
app.add_typer(erase.dataset, name="dataset")
app.command("gateway")(gateway.gateway)
app.add_typer(gateway.token, name="token")
app.add_typer(gateway.key, name="key")
app.add_typer(privacy.privacy, name="privacy")
app.add_typer(studio.studio, name="studio")
app.add_typer(vendor.vendor, name="vendor")
app.command("up")(service.up)
app.command("down")(service.down)
app.command("doctor")(service.doctor)
app.command("env")(service.env)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 bad input or usage."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except BadInputError as error:
        sys.exit(_failed(str(error), 2))
    except LoopError as error:
        sys.exit(_failed(str(error), 1))


def _failed(message: str, code: int) -> int:
    print(f"loop: {message}", file=sys.stderr)
    if "--json" in sys.argv[1:]:
        print(json.dumps({"error": message}))
    return code
