"""Commands on services: start and stop what a home runs, and say what is wrong with it."""

from __future__ import annotations

import typer

from loop import config, services
from loop.cli import output


def up(json: bool = output.Json) -> None:
    """Start Postgres, MLflow, Dagster and the gateway; print where they are; stop them on Ctrl-C."""
    services.up(config.load(), announce=output.emit_json if json else None)


def down(json: bool = output.Json) -> None:
    """Stop whatever services of this home are running; harmless when none is."""
    stopped = services.down(config.load())
    if json:
        output.emit_json({"stopped": stopped})
    else:
        output.stdout.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


def doctor(json: bool = output.Json) -> None:
    """What is missing or unhealthy on this machine, and the mend."""
    findings = services.doctor(config.load())
    healthy = all(f.ok for f in findings)
    if json:
        output.emit_json(
            {
                "healthy": healthy,
                "findings": [{"name": f.name, "ok": f.ok, "detail": f.detail, "mend": f.mend} for f in findings],
            }
        )
    else:
        rows = [["ok" if f.ok else "NOT OK", f.name, f.detail, f.mend or ""] for f in findings]
        output.table("Loop on this machine", ["", "what", "found", "mend"], rows)
    raise typer.Exit(0 if healthy else 1)


def env(json: bool = output.Json) -> None:
    """Print the exports with which plain `dagster dev -w workspace.yaml` works: eval "$(loop env)"."""
    settings = config.load()
    if json:
        output.emit_json(services.env(settings))
    else:
        print(services.exports(settings))
