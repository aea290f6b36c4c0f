"""Commands on personal data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loop import config
from loop.cli import output

privacy = typer.Typer(help="Personal data in texts.", no_args_is_help=True)


class Recognisers(StrEnum):
    """What looks for personal data."""

    PATTERNS = "patterns"
    FULL = "full"


@privacy.command("scan")
def scan(
    input: Annotated[Path, typer.Option(help='JSON lines: {"id": ..., "text": "..."}.')],  # noqa: A002 - the option
    output_: Annotated[Path, typer.Option("--output", help="Written whole or not at all; what is there is replaced.")],
    recognisers: Annotated[
        Recognisers | None,
        typer.Option(
            help="patterns: our patterns and checksums. full: Presidio's recognisers as well, and names where a spaCy "
            "model is installed. By default as the setting `privacy` says."
        ),
    ] = None,
    json: bool = output.Json,
) -> None:
    """Find personal data in texts: one line out per line in, with the spans (in code points) and the masked text."""
    from loop.privacy import presidio, recognise
    from loop.privacy.scan import scan as scan_file

    setting = config.load().privacy
    mode = recognisers.value if recognisers else "patterns" if setting == "off" else setting
    with output.progress(f"scanning {input.name}") as step:
        find = recognise.recogniser(mode)
        assert find is not None
        done = scan_file(input, output_, find, step)
    model = presidio.model() if mode == "full" else None
    if json:
        output.emit_json({**done.told(), "recognisers": mode, "model": model})
        return
    output.table(f"{done.lines} lines, {done.personal} with personal data", ["type", "spans"], done.spans.most_common())
    if model is None:
        output.stdout.print("Names of people were not looked for: that takes a spaCy model and --recognisers full.")
