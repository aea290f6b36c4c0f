"""From a challenger to a decision: side by side with the champion, what people say of it, and the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from loop import schema
from loop.cycle.flaws import flaws
from loop.cycle.learning import Progress, champion_of, parent_of
from loop.cycle.reading import labels, latest, record
from loop.cycle.versions import recipe_of, version_of
from loop.errors import LoopError
from loop.evaluate import answers, evidence, gate, heldout, panel
from loop.home import Home
from loop.release import card, releases, taints
from loop.release.releases import ModelVersion, Release
from loop.train import dataset


@dataclass(frozen=True)
class Asked:
    """The side-by-sides of a cycle: items = asked + identical."""

    challenger: str
    champion: str
    items: dict[str, int]
    """By workflow; one without items is not measured."""
    identical: int

    @property
    def rows(self) -> int:
        return sum(self.items.values())

    def told(self) -> dict[str, Any]:
        return {
            "challenger": self.challenger,
            "champion": self.champion,
            "identical": self.identical,
            **{f"items/{name}": count for name, count in self.items.items()},
        }


def comparisons(home: Home, cycle: date, *, progress: Progress | None = None) -> Asked:
    """Answer the benchmark's items with challenger and champion, and lay the answers side by side, blind."""
    # What is erased meanwhile is looked for once it stands there: an item, and what others had been asked before.
    with home.lake.pinned("benchmark", "comparisons"):
        return _comparisons(home, cycle, progress)


def _comparisons(home: Home, cycle: date, progress: Progress | None) -> Asked:
    settings = home.settings
    challenger, champion, attempt = contestants(home, cycle)
    items = answers.benchmark(home.lake, cycle, settings.benchmark_items)
    given = [
        answers.answers_of(
            model.version,
            home.path(model.path),
            items,
            cache=settings.cache,
            seed=settings.seed,
            progress=progress,
        )
        for model in (challenger, champion)
    ]
    rows = panel.side_by_side(
        items,
        cycle=cycle,
        attempt=attempt,
        challenger=challenger.version,
        champion=champion.version,
        challenger_answers=given[0],
        champion_answers=given[1],
        seed=settings.seed,
    )
    counts = {}
    before = home.lake.read("comparisons", days=(cycle, cycle))
    before = before.filter(pc.invert(pc.is_in(before["comparison_id"], rows["comparison_id"].combine_chunks())))
    for workflow in schema.WORKFLOWS:
        part = rows.filter(pc.equal(rows["workflow"], workflow))
        kept = before.filter(pc.equal(before["workflow"], workflow))  # of earlier attempts, which people have answered
        home.lake.overwrite("comparisons", pa.concat_tables([kept, part]), day=cycle, workflow=workflow)
        if part.num_rows:
            counts[workflow] = part.num_rows
    assert sum(counts.values()) == items.num_rows, "an item was lost"
    return Asked(challenger.version, champion.version, counts, rows.num_rows - panel.to_ask(rows).num_rows)


def contestants(home: Home, cycle: date) -> tuple[ModelVersion, ModelVersion, int]:
    """Challenger and champion of a cycle, and the attempt that they belong to.

    Raises:
        LoopError: the cycle has no challenger yet that was made by this code and with these settings.
    """
    frozen, champion = latest(home, "training_sets", cycle), champion_of(home, cycle)
    version = version_of(parent_of(home, cycle).version, frozen["digest"], recipe_of(home), home.settings.seed)
    try:
        challenger = releases.model_version(home.state, version)
    except LoopError:
        raise LoopError(
            f"cycle {cycle} has no challenger that this version of the code and these settings make of its training "
            "set: materialise its policy first"
        ) from None
    return challenger, champion, frozen["attempt"]


# -- evaluation -----------------------------------------------------------------------------------------------------


def evaluation(home: Home, cycle: date) -> evidence.Figures:
    """What is known of the challenger: the panel's answers; where nobody was asked, held-out people's decisions."""
    challenger, champion, attempt = contestants(home, cycle)
    posed = home.lake.read("comparisons", days=(cycle, cycle))
    rows = panel.of_attempt(posed, cycle, attempt, challenger.version)
    given = panel.read_answers(home.state, rows)
    found = flaws(home, cycle, challenger, champion, rows, latest(home, "training_sets", cycle)["cutoff"])
    figures = evidence.Figures(
        evidence.gather(
            rows,
            given,
            challenger=challenger.version,
            champion=champion.version,
            same_weights=challenger.weights_digest == champion.weights_digest,
            policy=evidence.house_policy(),
            seed=home.settings.seed,
            amplified=found.amplified,
            partings=found.partings,
        ),
        () if given.num_rows else _held_out(home, cycle, challenger, champion),
    )
    record(
        home,
        "evaluations",
        cycle,
        challenger=challenger.version,
        champion=champion.version,
        evidence=evidence.to_json(figures),
        evaluated_at=datetime.now(UTC),
    )
    return figures


def halts(home: Home, cycle: date) -> tuple[str, ...]:
    """What in the cycle's evaluation halts it however good its challenger looks; see `loop.evaluate.gate.halts`."""
    return tuple(gate.halts(evidence.from_json(latest(home, "evaluations", cycle)["evidence"]).evidence))


def _held_out(home: Home, cycle: date, challenger: ModelVersion, champion: ModelVersion) -> tuple[heldout.HeldOut, ...]:
    """What held-out people preferred and wrote, read as of the cycle's cut-off."""
    from loop.models import Model

    cutoff = latest(home, "training_sets", cycle)["cutoff"]
    return heldout.held_out(
        labels(home, "preferences", cycle, cutoff),
        labels(home, "demonstrations", cycle, cutoff),
        challenger=Model.load(home.path(challenger.path)),
        champion=Model.load(home.path(champion.path)),
        seed=home.settings.seed,
    )


# -- release --------------------------------------------------------------------------------------------------------


def release(home: Home, cycle: date, *, run_id: str | None = None) -> Release:
    """The gate decides on the evaluation; the decision becomes a row, tags of the MLflow run, and maybe the alias."""
    evaluated = latest(home, "evaluations", cycle)
    figures, tainted = evidence.from_json(evaluated["evidence"]), taints.tainted(home.state)
    known = replace(figures.evidence, champion_tainted=evaluated["champion"] in tainted)
    figures = replace(figures, evidence=known)
    verdict = gate.decide(known, evidence.house_policy())
    if (taint := tainted.get(evaluated["challenger"])) is not None:
        why = f"tainted: it learned from rows that were erased since ({taint.rows} of {taint.of} of its own)"
        verdict = gate.Verdict(gate.Decision.REFUSED, (why, *verdict.reasons))
    decided = releases.record_release(
        home.state,
        verdict,
        cycle=cycle,
        challenger=evaluated["challenger"],
        champion_before=evaluated["champion"],
        evidence=evidence.to_json(figures),
        author="gate",
        run_id=run_id,
    )
    challenger = releases.model_version(home.state, evaluated["challenger"])
    was_live = any(r.live and r.challenger == challenger.version for r in releases.history(home.state))
    if challenger.mlflow_run is not None and (decided.live or not was_live):
        # What made a champion stays on its page; a rerun of its cycle is a row of releases and no more.
        home.registry.decide(
            challenger.mlflow_run,
            decision=decided.decision,
            reasons=decided.reasons,
            live=decided.live,
            metrics=evidence.metrics(figures),
        )
        home.registry.write_card(challenger.mlflow_run, card.card(_facts(home, cycle, challenger, figures, decided)))
    serving = releases.champion_now(home.state)
    if serving is not None and (run := releases.model_version(home.state, serving).mlflow_run) is not None:
        home.registry.point_champion(run)  # also after a crash between the row and the alias
    return decided


def _facts(home: Home, cycle: date, made: ModelVersion, figures: evidence.Figures, decided: Release) -> card.Facts:
    """What the model card tells of a challenger."""
    frozen = latest(home, "training_sets", cycle)
    rows = dataset.load(home.settings.training_sets, frozen["digest"])
    return card.Facts(
        version=made.version,
        parent=made.parent,
        cycle=cycle,
        seed=made.seed,
        code=made.code,
        weights_digest=made.weights_digest,
        training_digest=made.training_digest,
        cutoff=frozen["cutoff"],
        demonstrations=card.counts(rows.demonstrations),
        preferences=card.counts(rows.preferences),
        recipe=json.loads(made.recipe),
        figures=figures,
        decision=decided.decision,
        reasons=decided.reasons,
    )
