"""Data Docs: the last verdicts as pages below the home, for whoever has no Dagster at hand.

Great Expectations renders its own page of a validation; it takes its style from the network and is bare without one, so
the verdict stands beside it as markdown. Pages hold figures and ids, no texts. Only the last `KEPT` verdicts of a
workflow have pages, and each is rendered once: what this costs does not grow with history.
"""

from __future__ import annotations

import html
import re
from datetime import date
from pathlib import Path
from typing import Any, Final

KEPT: Final = 30
"""Verdicts of a workflow that have pages."""
_PAGE: Final = re.compile(r"\d{4}-\d\d-\d\d-attempt-\d{6}")


def write(  # noqa: PLR0913 - where, of which verdict, and what
    folder: Path, day: date, workflow: str, attempt: int, *, markdown: str, result: dict[str, Any] | None
) -> Path:
    """The pages of one verdict, and the index over those that are kept; the path of its markdown.

    Args:
        folder: where all pages stand.
        attempt: of the verdict; a later one of the same day has pages of its own.
        markdown: the verdict.
        result: what Great Expectations found, as JSON; None where there was nothing to judge.
    """
    name = f"{day}-attempt-{attempt:06}"
    place = folder / workflow
    place.mkdir(parents=True, exist_ok=True)
    page = place / f"{name}.md"
    page.write_text(markdown)
    if result is not None:
        (place / f"{name}.html").write_text(_rendered(result))
    names = sorted({found[0] for file in place.iterdir() if (found := _PAGE.match(file.name))})
    for old in names[:-KEPT]:
        for ending in (".md", ".html"):
            (place / f"{old}{ending}").unlink(missing_ok=True)
    _index(folder)
    return page


def _rendered(result: dict[str, Any]) -> str:
    """A page of Great Expectations' own."""
    from great_expectations.core import expectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    loaded = expectationSuiteValidationResultSchema.load(result)
    return str(DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(loaded)))


def _index(folder: Path) -> None:
    """The newest first, by workflow."""
    lines = ["<!doctype html><meta charset='utf-8'><title>Data Docs</title><h1>Verdicts on batches</h1>"]
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        lines.append(f"<h2>{html.escape(place.name)}</h2><ul>")
        for page in sorted(place.glob("*.md"), reverse=True):
            pages = [page, *([page.with_suffix(".html")] if page.with_suffix(".html").exists() else [])]
            links = ", ".join(f"<a href='{place.name}/{p.name}'>{p.suffix[1:]}</a>" for p in pages)
            lines.append(f"<li>{page.stem}: {links}</li>")
        lines.append("</ul>")
    (folder / "index.html").write_text("\n".join(lines))
