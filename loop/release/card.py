"""The model card: what a version was made from, what is known of it and what was decided, as markdown for people.

Sections after Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv:1810.03993). The same facts give the
same card; nothing is read from anywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import pyarrow as pa

from loop.evaluate.evidence import Figures
from loop.evaluate.gate import Evidence
from loop.evaluate.heldout import HeldOut
from loop.evaluate.stats import Estimate, Share

NOT_MEASURED: Final = "not measured"

LIMITS: Final = (
    "It learned from what people let stand, wrote or preferred under time pressure: their taste, not what is true.",
    "People see few candidates and often take the first; preferences are not corrected for position or propensity.",
    "The panel compares on held-out prompts of the same workflows; other prompts, languages and uses are not measured.",
    "Answers of one panel member to several items are taken as independent; a small panel's intervals are too narrow.",
    "No red-team, privacy or off-policy evaluation stands behind this card.",
)
"""What every version of the loop's models shares."""


@dataclass(frozen=True)
class Count:
    """Rows of one kind that a model was trained on."""

    workflow: str
    kind: str
    """Such as accepted, edited (demonstrations) or choice, edit (preferences)."""
    rows: int


def counts(labels: pa.Table) -> tuple[Count, ...]:
    """Rows by workflow and kind of a table of demonstrations or preferences."""
    found = labels.group_by(["workflow", "kind"]).aggregate([([], "count_all")]).to_pylist()
    return tuple(Count(row["workflow"], row["kind"], row["count_all"]) for row in found)


@dataclass(frozen=True)
class Facts:
    """What a card tells."""

    version: str
    parent: str | None
    cycle: date
    seed: int
    code: str
    weights_digest: str
    training_digest: str | None
    cutoff: datetime | None
    """Only events received before it were learned from."""
    demonstrations: Sequence[Count]
    preferences: Sequence[Count]
    recipe: Mapping[str, Any]
    figures: Figures | None = None
    """None before evaluation."""
    decision: str | None = None
    """None before the release decision."""
    reasons: Sequence[str] = ()
    limits: Sequence[str] = LIMITS


def card(facts: Facts) -> str:
    """The card, markdown, ending in a newline."""
    return "\n".join(
        [
            f"# Model {facts.version}",
            "",
            *_decision(facts),
            "",
            "## Origin",
            "",
            *_origin(facts),
            "",
            "## Trained on",
            "",
            *_data(facts),
            "",
            "## Recipe",
            "",
            *_table(
                ("parameter", "value"),
                ((name, json.dumps(facts.recipe[name], sort_keys=True, default=str)) for name in sorted(facts.recipe)),
            ),
            "",
            "## Evidence",
            "",
            evidence(facts.figures) if facts.figures else "Not evaluated yet.",
            "",
            "## Known limits",
            "",
            *(f"- {limit}" for limit in facts.limits),
            "",
        ]
    )


def _decision(facts: Facts) -> Iterator[str]:
    if facts.decision is None:
        yield "Not decided on yet."
        return
    yield f"**{facts.decision}**, for these reasons:"
    yield ""
    yield from (f"- {reason}" for reason in facts.reasons)


def _origin(facts: Facts) -> list[str]:
    return [
        f"- parent: {facts.parent or 'none, it is a base'}",
        f"- learning cycle: {facts.cycle.isoformat()}",
        f"- events received before: {facts.cutoff.isoformat() if facts.cutoff else 'no events'}",
        f"- training set: {facts.training_digest or 'none'}",
        f"- weights (SHA-256): {facts.weights_digest}",
        f"- seed: {facts.seed}; code: {facts.code}",
    ]


def _data(facts: Facts) -> list[str]:
    kinds = (("demonstrations", facts.demonstrations), ("preferences", facts.preferences))
    rows = [
        (name, count.workflow, count.kind, str(count.rows))
        for name, counts in kinds
        for count in sorted(counts, key=lambda c: (c.workflow, c.kind))
    ]
    if not rows:
        return ["No decisions."]
    totals = ", ".join(f"{sum(c.rows for c in counts)} {name}" for name, counts in kinds)
    return [f"{totals}.", "", *_table(("what", "workflow", "kind", "rows"), rows)]


# -- evidence -------------------------------------------------------------------------------------------------------


def evidence(figures: Figures) -> str:
    """The figures alone, as markdown tables."""
    found = figures.evidence
    lines = [f"Challenger {found.challenger} against champion {found.champion}.", "", *_panel(found)]
    if found.answers:
        lines += ["", *_answers(found)]
    if found.amplified:
        lines += ["", *_gaps(found)]
    if found.partings:
        lines += ["", *_partings(found)]
    for held in figures.held_out:
        lines += ["", *_held_out(held)]
    return "\n".join(lines)


def _panel(evidence: Evidence) -> Iterator[str]:
    panel = evidence.panel
    if panel is None:
        yield "Blind side-by-side: not measured, there was nobody to ask."
        return
    yield (
        f"Blind side-by-side by {panel.members} people, share of wins minus share of losses. "
        f"The left answer was preferred in {_share(panel.left)}; the whole without the member who favours it most: "
        f"{NOT_MEASURED if panel.least_without_one is None else f'{panel.least_without_one:+.3f}'}."
    )
    yield ""
    known = {w.workflow: w for w in panel.workflows}
    rows = [("whole", _share(panel.answered), *_estimate(panel.whole))]
    for name in dict.fromkeys((*evidence.expected, *known)):
        found = known.get(name)
        rows.append((name, *((_share(found.answered), *_estimate(found.difference)) if found else [NOT_MEASURED] * 5)))
    yield from _table(("workflow", "answered", "difference", "interval", "paired sd", "detectable"), rows)


def _answers(evidence: Evidence) -> Iterator[str]:
    yield "Answers, challenger / champion:"
    yield ""
    rows = [
        (
            a.workflow,
            f"{_share(a.challenger_parses)} / {_share(a.champion_parses)}",
            f"{a.challenger.entropy:.2f} / {a.champion.entropy:.2f}",
            f"{a.challenger.distinct_2:.3f} / {a.champion.distinct_2:.3f}",
            f"{a.challenger.most_common:.1%} / {a.champion.most_common:.1%}",
        )
        for a in evidence.answers
    ]
    yield from _table(("workflow", "parse", "entropy, bits", "distinct-2", "most common"), rows)


def _gaps(evidence: Evidence) -> Iterator[str]:
    yield "Widest gaps between one group's answers and all others', in what went in and in what comes out:"
    yield ""
    rows = []
    for found in evidence.amplified:
        compared = f"{found.compared} compared" if found.compared else NOT_MEASURED
        rows.append((found.workflow, found.of, compared, "", "", ""))
        for gap in found.widest[:3]:
            about = f"{gap.attribute} {gap.group}"
            interval = f"at least {gap.low:.2f}{', **beyond the bound**' if gap.beyond else ''}"
            figures = (f"{gap.before:+.2f}", f"{gap.after:+.2f}", f"{gap.widened:.2f} ({interval})")
            rows.append((gap.measure, about, f"{gap.rows[0]} / {gap.rows[1]} rows", *figures))
    yield from _table(("workflow or measure", "of", "rows in / out", "in", "out", "wider by"), rows)


def _partings(evidence: Evidence) -> Iterator[str]:
    yield "Acceptance and outcomes of the last two versions that served, mature suggestions only:"
    yield ""
    rows = [
        (
            p.workflow,
            p.outcome,
            f"{p.earlier} -> {p.later}",
            f"{p.acceptance[0]:.1%} -> {p.acceptance[1]:.1%}",
            f"{p.value[0]:+.3f} -> {p.value[1]:+.3f}",
            "**parted**" if p.parted else "not parted",
        )
        for p in evidence.partings
    ]
    yield from _table(("workflow", "outcome", "versions", "taken", "outcome a taken suggestion", ""), rows)


def _held_out(held: HeldOut) -> Iterator[str]:
    gain = _estimate(held.gain)
    yield (
        f"Held-out people in {held.workflow} ({held.writers} writers). "
        f"Final texts ({held.demonstrations}), nats a token: challenger {_number(held.challenger_nats)}, "
        f"champion {_number(held.champion_nats)}, difference {gain[0]} ({gain[1]})."
    )
    for told, pairs, guesses in (
        ("taken over shown beside it", held.choice_pairs, held.choice),
        ("final text over suggestion", held.edit_pairs, held.edit),
    ):
        if guesses:
            yield ""
            yield f"Which of two texts was preferred, {told} ({pairs} pairs; fitted guesses weigh with either sign):"
            yield ""
            yield from _table(
                ("guess", "right", "interval", "decided", "ties", "unknown"),
                (
                    (
                        g.name,
                        f"{g.accuracy.mean:.1%}" if g.accuracy else NOT_MEASURED,
                        _estimate(g.accuracy)[1],
                        str(g.accuracy.n if g.accuracy else 0),
                        str(g.ties),
                        str(g.unknown),
                    )
                    for g in guesses
                ),
            )


# -- figures as text ------------------------------------------------------------------------------------------------


def _estimate(found: Estimate | None) -> tuple[str, str, str, str]:
    """Mean, interval, paired standard deviation and detectable effect."""
    if found is None:
        return (NOT_MEASURED,) * 4
    ends = found.bootstrap
    interval = f"{ends.low:+.3f} to {ends.high:+.3f} ({ends.confidence:.0%})" if ends else NOT_MEASURED
    return f"{found.mean:+.3f}", interval, _number(found.sd), _number(found.detectable)


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.3f}"


def _share(share: Share) -> str:
    return NOT_MEASURED if share.value is None else f"{share.count} of {share.of}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    assert all(len(row) == len(head) for row in cells)
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * len(head)}", *lines[1:]]
