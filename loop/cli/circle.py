"""The simulated organisation driven through the real loop: the one place where the two meet.

The organisation sees served suggestions and the panel's blind comparisons, and answers with events and choices. What it
knows beyond them goes to `truth/` and into the scoreboard, never into the lake.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from loop import cycle as stages
from loop import schema
from loop.cli.channel import Channel, InProcess
from loop.cli.run import Control, World
from loop.cli.stopwatch import Stopwatch
from loop.collect import events
from loop.errors import BadInputError
from loop.evaluate import answers, panel
from loop.home import Home
from loop.label import outside, tasks
from loop.label.annotations import Annotation, record
from loop.lake import from_rows
from loop.release import releases
from loop.simulate import annotators, controls
from loop.simulate.conduct import CONDUCTS
from loop.simulate.organisation import Organisation

if TYPE_CHECKING:
    from loop.cli.dagster import Orchestrator

FIRST_DAY = date(2026, 1, 5)
"""The simulated calendar starts on this Monday, whenever it is run: the same seed gives the same days."""

EVENING = time(20)
"""When the day's questions are answered, in UTC."""
PAGE = "page"
"""`source` of what simulated annotators say: as the page would send it."""


class Circle:
    """One home in which one simulated organisation works."""

    def __init__(self, home: Home, dagster: Orchestrator, world: World, watch: Stopwatch) -> None:
        self.home, self.dagster, self.world, self.watch = home, dagster, world, watch
        with watch.stage("people"):
            self.organisation = Organisation(
                world.seed,
                employees=world.employees,
                workflows=world.workflows,
                edits=world.edits,
                conduct=CONDUCTS[world.conduct],
            )
        self.channel: Channel = InProcess(home, world.seed)
        self.annotators = {name: annotators.hire(world.seed, name, world.annotators) for name in world.workflows}
        self._days_file = home.settings.truth / "days.jsonl"
        self._first: date | None = None

    def begin(self) -> None:
        """Give the loop what an organisation gives at the start: its old texts and its benchmark; make the base."""
        truth, told = self.home.settings.truth, json.loads(msgspec.json.encode(self.world))
        marker = truth / "run.json"
        if marker.exists():
            if (known := {"annotators": 0} | json.loads(marker.read_text())) != told:
                raise BadInputError(f"this home holds the world {known}, asked for {told}: set another LOOP_HOME")
            return
        with self.watch.stage("base model"):
            self.organisation.write_truth(truth)
            hired = [person for staff in self.annotators.values() for person in staff]
            (truth / "annotators.json").write_text(json.dumps(annotators.told(hired), indent=1))
            corpus = self.home.settings.corpus / "organisation.jsonl"
            corpus.parent.mkdir(parents=True, exist_ok=True)
            corpus.write_text("".join(json.dumps(row) + "\n" for row in self.organisation.corpus()))
            before = FIRST_DAY - timedelta(days=1)
            for workflow in self.world.workflows:
                prompts = self.organisation.benchmark(workflow, self.home.settings.benchmark_items)
                answers.add_items(self.home.lake, before, workflow, prompts)
            stages.base(self.home, before)
        marker.write_text(json.dumps(told))

    def next_days(self, count: int) -> list[date]:
        """The days after those that this home has lived through."""
        lived = self._days_file.read_text().splitlines() if self._days_file.exists() else []
        last = date.fromisoformat(json.loads(lived[-1])["day"]) if lived else FIRST_DAY - timedelta(days=1)
        self._first = last + timedelta(days=1)
        return [last + timedelta(days=n) for n in range(1, count + 1)]

    def day(self, day: date) -> list[dict[str, Any]]:
        """One day: suggestions, decisions, the data jobs, and the cycle in the evening; a row per workflow."""
        with self.watch.stage("serve"):
            requests = self.organisation.requests(day)
            suggestions = self.channel.suggest(day, requests)
        with self.watch.stage("people"):
            sent = [self.organisation.decide(r, s) for r, s in zip(requests, suggestions, strict=True)]
            if self.world.control is Control.SHUFFLED:
                sent = controls.shuffle_decisions(sent, self.world.seed)
        with self.watch.stage("collect"):
            self.channel.send(day, sent)
        halted = {workflow for workflow in self.world.workflows if not self.dagster.data(day, workflow)}
        for workflow in self.world.workflows if self.world.annotators else ():
            with self.watch.stage("people"):
                self._ask_annotators(day, workflow)
            self.dagster.aggregate(day, workflow)
        if self.world.control is not Control.FROZEN:
            self.dagster.learn(day)
            with self.watch.stage("people"):
                self._ask_panel(day)
            self.dagster.decide(day)
        with self.watch.stage("people"):
            self.organisation.write_outcomes(self.home.settings.truth, day, sent)
            rows = [
                self._told(day, workflow, sent, suggestions[0].model_version)
                | {"status": "held" if workflow in halted else "accepted"}
                for workflow in self.world.workflows
            ]
        with self._days_file.open("a") as file:
            file.write(json.dumps({"day": day.isoformat(), "workflows": rows}, default=str) + "\n")
        return rows

    def final(self, items: int) -> list[dict[str, Any]]:
        """True utility of base and champion on prompts that nobody saw, beside the best constant answer.

        The two are sampled with different seeds, so that the same model compared with itself shows its noise.
        """
        with self.watch.stage("final"):
            decided = releases.history(self.home.state)
            base = next(r.challenger for r in decided if r.decision == releases.BASE)
            champion = releases.champion_now(self.home.state)
            assert base is not None
            assert champion is not None
            rows = []
            for workflow in self.world.workflows:
                prompts = self.organisation.final_prompts(workflow, items)
                utilities = [self._utilities(v, workflow, prompts, seed) for seed, v in enumerate((base, champion), 1)]
                rows.append(
                    {
                        "workflow": workflow,
                        "items": len(prompts),
                        "base": float(np.mean(utilities[0])),
                        "champion": float(np.mean(utilities[1])),
                        "constant": self.organisation.constant(workflow)[1],
                    }
                )
        return rows

    def releases(self) -> list[dict[str, Any]]:
        """The decisions of the days that were just run."""
        columns = ("cycle", "challenger", "champion_before", "decision", "reasons")
        return [
            {column: getattr(release, column) for column in columns}
            for release in releases.history(self.home.state)
            if self._first is not None and release.cycle >= self._first
        ]

    # -- inside -----------------------------------------------------------------------------------------------------

    def _ask_panel(self, cycle: date) -> None:
        """Put the cycle's comparisons before the panel; its members give no training data."""
        key = self.home.settings.secret("pseudonym")
        posed = self.home.lake.read("comparisons", days=(cycle, cycle))
        attempt = stages.latest(self.home, "training_sets", cycle)["attempt"]
        rows = panel.to_ask(panel.of_attempt(posed, cycle, attempt)).to_pylist()
        now = datetime.now(UTC)
        given = []
        for row in rows:
            said = self.organisation.answer(row)
            who = events.pseudonym(said.employee, key)
            given.append(panel.Answer(said.comparison_id, who, panel.Choice(said.choice), now, said.dwell_ms))
        panel.record_answers(self.home.state, given)

    def _ask_annotators(self, day: date, workflow: str) -> None:
        """Put the day's questions before those who were hired for it, each before as many as it wants."""
        settings, state, staff = self.home.settings, self.home.state, self.annotators[workflow]
        about: dict[str, Any] = {"source": PAGE, "workflows": [workflow], "author": "simulation"}
        names = [outside.enlist(settings, state, person=person.id, **about) for person in staff]
        asked = tasks.read(self.home.lake, days=(day, day), workflows=[workflow])
        done = [0] * len(staff)
        clock = [datetime.combine(day, EVENING, UTC)] * len(staff)
        given = []
        for first, task in enumerate(asked.to_pylist()):
            for nth in range(min(task["wanted"], len(staff))):
                who = (first + nth) % len(staff)
                said = annotators.answer(self.organisation.world, task, staff[who], done=done[who])
                shown, clock[who] = clock[who], clock[who] + timedelta(seconds=said.seconds)
                done[who] += 1
                words = {name: getattr(said, name) for name in ("label", "content", "swapped", "seconds")}
                at = clock[who]
                given.append(
                    Annotation(said.label_task_id, names[who], at, PAGE, shown_at=shown, recorded_at=at, **words)
                )
        record(state, asked, given)

    def _told(self, day: date, workflow: str, sent: Sequence[dict[str, Any]], version: str) -> dict[str, Any]:
        mine = [event for event in sent if event["workflow"] == workflow]
        utilities = [
            self.organisation.utility(workflow, event["prompt"], candidate["text"])
            for event in mine
            for candidate in event["candidates"]
        ]
        accepted = sum(event["decision"] == schema.Decision.ACCEPT for event in mine)
        return {
            "day": day,
            "workflow": workflow,
            "interactions": len(mine),
            "acceptance": accepted / len(mine) if mine else None,
            "utility": float(np.mean(utilities)) if utilities else None,
            "model_version": version,
        }

    def _utilities(self, version: str, workflow: str, prompts: Sequence[Any], seed: int) -> list[float]:
        found = answers.answers_of(
            version,
            self.home.path(releases.model_version(self.home.state, version).path),
            from_rows(answers.items(FIRST_DAY, workflow, prompts), schema.BENCHMARK),
            cache=self.home.settings.truth / "cache",
            seed=seed,
        )
        return [self.organisation.utility(workflow, p, a) for p, a in zip(prompts, found, strict=True)]
