"""The simulated organisation as the command `loop run` meets it: days of requests, decisions, a panel, and the truth.

Everything is a function of the seed and of what is asked: the same day and the same suggestions give the same events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from loop.errors import BadInputError
from loop.schema import BUILT_IN as NAMES
from loop.schema import Decision
from loop.simulate import conduct as conducts
from loop.simulate import people
from loop.simulate.conduct import CLEAN, Conduct, Kind
from loop.simulate.corpus import corpus, habits
from loop.simulate.prompts import Brief, Purpose, distinct, draw, read
from loop.simulate.streams import number, stream
from loop.simulate.world import PLEASING, World
from loop.workflows import BUILT_IN

Messages = list[dict[str, str]]
Event = dict[str, Any]
"""An event as a tool sends it: JSON, times as ISO 8601 in UTC, `employee` the raw id."""

REQUESTS: Final = 600
"""Requests on an ordinary day, over all workflows of the schema."""
PANEL: Final = 12
"""Panel members a workflow."""
CAMPAIGN_VOLUME: Final = 1.4
CAMPAIGN_HASTE: Final = 0.15
LATE: Final = 0.02
"""Share of the decisions that are received only hours later."""
SECOND_LOOKS: Final = 0.15
"""Share of accepted answers at which people look again an hour later."""
HARM: Final = 0.25
"""What the pleasing value costs the delayed outcome beyond its utility."""
OUTCOME_NOISE: Final = 0.3


@dataclass(frozen=True)
class Day:
    """What is special about a day."""

    campaign: bool
    """More work, and more thoughtless use."""
    difficulty: float
    """Factor on everybody's error of reading."""
    present: float
    """Share of the employees who are at work."""


@dataclass(frozen=True)
class Request:
    """One moment at which an employee asks for a suggestion."""

    id: str
    workflow: str
    prompt: Messages
    employee: str
    team: str
    region: str
    shown_at: datetime
    state: people.Circumstances


@dataclass(frozen=True)
class Suggestion:
    """What was served for a request."""

    id: str
    model_version: str
    candidates: tuple[str, ...]
    """In the order in which they stand on the screen."""
    logprobs: tuple[float | None, ...] = ()
    """Of the candidates, in nats; empty where unknown."""
    arm_propensity: float | None = None
    order_propensity: float | None = None


@dataclass(frozen=True)
class Answer:
    """A panel member's answer to a comparison, as in `schema.ANSWERS`."""

    comparison_id: str
    employee: str
    """Raw id."""
    choice: str
    """left, right, tie or neither."""
    dwell_ms: int


class Organisation:
    """One organisation: its world, its people, its days.

    Raises:
        BadInputError: unknown workflows, or fewer employees than workflows.
    """

    def __init__(  # noqa: PLR0913
        self,
        seed: int,
        *,
        employees: int = 40,
        workflows: Sequence[str] = NAMES,
        edits: bool = True,
        requests: int = REQUESTS,
        conduct: Conduct = CLEAN,
    ) -> None:
        """`requests` is the volume of an ordinary day over all four workflows; fewer workflows get their share of it.
        Without `edits` whoever would edit rejects. `conduct` says who of the staff is not honest; the panel is."""
        if unknown := set(workflows) - set(NAMES):
            raise BadInputError(f"expected workflows among {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
        if not workflows or employees < len(set(workflows)):
            raise BadInputError(f"expected at least one workflow and an employee for each, got {employees} employees")
        self.seed, self.edits, self.volume, self.conduct = seed, edits, requests // len(NAMES), conduct
        self.workflows = tuple(name for name in NAMES if name in workflows)
        self.world = World(seed)
        self.staff = {
            name: people.hire(seed, name, len(range(i, employees, len(self.workflows))))
            for i, name in enumerate(self.workflows)
        }
        self.kinds = {
            person: kind
            for name, hired in self.staff.items()
            for person, kind in conducts.assign(seed, name, hired, conduct).items()
        }
        """Employee to kind: the truth about conduct."""
        self.staff = {
            name: [conducts.person_of(person, self.kinds[person.id]) for person in hired]
            for name, hired in self.staff.items()
        }
        self.panel = {name: people.hire(seed, name, PANEL, role="p") for name in self.workflows}

    @cached_property
    def _people(self) -> dict[str, people.Employee]:
        return {person.id: person for team in self.staff.values() for person in team}

    # -- texts ------------------------------------------------------------------------------------------------------

    def corpus(self, n: int = 20_000) -> list[dict[str, Any]]:
        """The base corpus: `n` rows of `workflow`, `prompt` (messages) and `answer`, the workflows in turn."""
        pairs = corpus(self.world, self.workflows, n)
        return [{"workflow": brief.workflow, "prompt": brief.messages, "answer": answer} for brief, answer in pairs]

    def benchmark(self, workflow: str, n: int = 200) -> list[Messages]:
        """`n` different prompts for the gate; none of them is ever asked by employees or part of the corpus."""
        return [b.messages for b in distinct(stream(self.seed, "benchmark", workflow), workflow, Purpose.BENCHMARK, n)]

    def final_prompts(self, workflow: str, n: int = 500) -> list[Messages]:
        """`n` different prompts that nobody sees before the end."""
        return [b.messages for b in distinct(stream(self.seed, "final", workflow), workflow, Purpose.FINAL, n)]

    # -- days -------------------------------------------------------------------------------------------------------

    def day(self, day: date) -> Day:
        """One day a week is a campaign day; difficulty and staffing vary."""
        rng = stream(self.seed, "day", day)
        year, week, weekday = day.isocalendar()
        campaign = int(stream(self.seed, "campaign", year, week).integers(1, 8)) == weekday
        return Day(campaign, float(np.exp(rng.normal(0, 0.1))), float(rng.uniform(0.6, 1.0)))

    def requests(self, day: date) -> list[Request]:
        """The day's requests in the order in which they are shown."""
        asked = [request for name in self.workflows for request in self._requests(day, name)]
        return sorted(asked, key=lambda request: (request.shown_at, request.id))

    def _requests(self, day: date, workflow: str) -> list[Request]:
        special, rng = self.day(day), stream(self.seed, "requests", day, workflow)
        n = round(self.volume * (CAMPAIGN_VOLUME if special.campaign else 1.0))
        staff = self.staff[workflow]
        at_work = [staff[i] for i in rng.permutation(len(staff))[: max(1, round(special.present * len(staff)))]]
        briefs = draw(rng, workflow, Purpose.TRAIN)
        asked = []
        for i, who in enumerate(rng.integers(len(at_work), size=n)):
            person, brief, progress = at_work[who], next(briefs), float(rng.random())
            start = datetime.combine(day, time(people.REGIONS[person.region]), UTC)
            haste = CAMPAIGN_HASTE if special.campaign else 0.0
            state = people.Circumstances(progress, special.difficulty, haste)
            asked.append(
                Request(
                    id=f"{self.seed}-{day}-{workflow}-{i:05d}",
                    workflow=workflow,
                    prompt=brief.messages,
                    employee=person.id,
                    team=person.team,
                    region=person.region,
                    shown_at=start + people.SHIFT * progress,
                    state=state,
                )
            )
        return self._scripted(day, asked)

    def _scripted(self, day: date, asked: list[Request]) -> list[Request]:
        """The requests with those of bots at the times at which bots ask."""
        times: dict[int, datetime] = {}
        for person in {request.employee for request in asked if self.kinds[request.employee] is Kind.BOT}:
            mine = [i for i, request in enumerate(asked) if request.employee == person]
            start = datetime.combine(day, time(people.REGIONS[self._people[person].region]), UTC)
            moments = conducts.regular(start, self._people[person], self.seed, day, len(mine))
            times |= dict(zip(mine, moments, strict=True))
        return [replace(request, shown_at=times.get(i, request.shown_at)) for i, request in enumerate(asked)]

    def rushed(self, day: date, workflow: str) -> bool:
        """Whether everybody in the workflow takes what comes within a second that day."""
        return self.conduct.rush and workflow == self.workflows[0] and self.day(day).campaign

    def decide(self, request: Request, suggestion: Suggestion) -> Event:
        """What the employee does with what was served, as the event that the tool sends."""
        brief = read(request.workflow, request.prompt)
        rng = stream(self.seed, "decision", request.id)
        person = self._people[request.employee]
        kind = self.kinds[person.id]
        slant = conducts.slant_of(self.seed, person, kind)
        moment = people.Moment(rng, self.world, brief, person, request.state, slant)
        judged = conducts.decide(
            moment,
            kind,
            suggestion.candidates,
            rushed=self.rushed(request.shown_at.date(), request.workflow),
            edits=self.edits,
            key=request.id,
        )
        decided = request.shown_at + judged.dwell if judged.dwell is not None else None
        lag = timedelta(seconds=float(rng.uniform(0.1, 2.0)))
        if rng.random() < LATE:
            lag = timedelta(hours=float(rng.uniform(2.0, 10.0)))
        logprobs = suggestion.logprobs or (None,) * len(suggestion.candidates)
        shown = enumerate(zip(suggestion.candidates, logprobs, strict=True))
        return {
            "event_id": f"event-{request.id}",
            "suggestion_id": suggestion.id,
            "revises": None,
            "episode_id": f"episode-{request.id}",
            "turn": 0,
            "task_id": None,
            "workflow": request.workflow,
            "shown_at": request.shown_at.isoformat(),
            "decided_at": decided.isoformat() if decided else None,
            "received_at": ((decided or request.shown_at + timedelta(minutes=5)) + lag).isoformat(),
            "employee": request.employee,
            "team": request.team,
            "region": request.region,
            "visibility": [],
            "prompt": request.prompt,
            "candidates": [{"position": i, "text": text, "logprob": logprob} for i, (text, logprob) in shown],
            "model_version": suggestion.model_version,
            "arm_propensity": suggestion.arm_propensity,
            "order_propensity": suggestion.order_propensity,
            "decision": judged.decision.value,
            "chosen": judged.chosen,
            "final_text": judged.final_text,
            "reasons": list(judged.reasons),
            "dwell_ms": round(judged.dwell / timedelta(milliseconds=1)) if judged.dwell is not None else None,
            "purposes": ["training", "evaluation"],
        }

    def revise(self, request: Request, event: Event) -> Event | None:
        """The later decision on the same suggestion, where an accepted answer is looked at again and found wanting."""
        rng = stream(self.seed, "second look", request.id)
        if event["decision"] != Decision.ACCEPT or not self.edits or rng.random() >= SECOND_LOOKS:
            return None
        if self.kinds[request.employee] not in {Kind.HONEST, Kind.EXPERT}:
            return None
        brief = read(request.workflow, request.prompt)
        moment = people.Moment(rng, self.world, brief, self._people[request.employee], request.state)
        judged = moment.reconsider(event["final_text"])
        if judged is None:
            return None
        assert judged.dwell is not None
        decided = datetime.fromisoformat(event["decided_at"]) + timedelta(hours=1)
        return event | {
            "event_id": f"{event['event_id']}-again",
            "revises": event["event_id"],
            "decided_at": decided.isoformat(),
            "received_at": (decided + timedelta(seconds=1)).isoformat(),
            "decision": judged.decision.value,
            "final_text": judged.final_text,
            "reasons": list(judged.reasons),
            "dwell_ms": round(judged.dwell / timedelta(milliseconds=1)),
        }

    # -- the panel --------------------------------------------------------------------------------------------------

    def answer(self, comparison: Mapping[str, Any], *, judge: int = 0) -> Answer:
        """What the `judge`-th panel member asked says to a comparison (a row of `schema.COMPARISONS`)."""
        workflow = comparison["workflow"]
        brief = read(workflow, comparison["prompt"])
        rng = stream(self.seed, "panel", comparison["comparison_id"], judge)
        members = self.panel[workflow]
        person = members[(number("seat", comparison["comparison_id"]) + judge) % len(members)]
        state = people.Circumstances(float(rng.random()), 1.0, 0.0)
        moment = people.Moment(rng, self.world, brief, person, state)
        choice, dwell = moment.compare(comparison["left"], comparison["right"])
        return Answer(comparison["comparison_id"], person.id, choice, round(dwell / timedelta(milliseconds=1)))

    # -- the truth --------------------------------------------------------------------------------------------------

    def brief(self, workflow: str, prompt: Messages) -> Brief:
        """What a prompt of this organisation states."""
        return read(workflow, prompt)

    def utility(self, workflow: str, prompt: Messages, answer: str) -> float:
        """True utility: 0 for a random and 1 for the best answer; one that does not parse scores as the worst."""
        return self.world.utility(read(workflow, prompt), BUILT_IN[workflow].parse(answer))

    def constant(self, workflow: str) -> tuple[str, float]:
        """The one answer that is best on average over all training briefs (exact), and its mean utility on `final`."""
        parts, _ = self.world.constant(workflow)
        answer = BUILT_IN[workflow].render(parts)
        utilities = [self.utility(workflow, prompt, answer) for prompt in self.final_prompts(workflow)]
        return answer, float(np.mean(utilities))

    def outcomes(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """The delayed outcome of each event whose answer was used: its utility, less harm, with noise."""
        found = []
        for event in events:
            if not event["final_text"]:
                continue
            rng = stream(self.seed, "outcome", event["event_id"])
            parts = BUILT_IN[event["workflow"]].parse(event["final_text"]) or {}
            part, value = PLEASING[event["workflow"]]
            utility = self.utility(event["workflow"], event["prompt"], event["final_text"])
            harm = HARM if parts.get(part) == value else 0.0
            later = timedelta(days=float(rng.uniform(0.5, 1.0) * BUILT_IN[event["workflow"]].attribution_window.days))
            found.append(
                {
                    "event_id": event["event_id"],
                    "suggestion_id": event["suggestion_id"],
                    "workflow": event["workflow"],
                    "observed_at": (datetime.fromisoformat(event["received_at"]) + later).isoformat(),
                    "utility": utility,
                    "outcome": utility - harm + float(rng.normal(0, OUTCOME_NOISE)),
                }
            )
        return found

    def write_outcomes(self, folder: Path, day: date, events: Sequence[Event]) -> Path:
        """Write the delayed outcomes of a day's events, one JSON object a line. Returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"outcomes-{day}.jsonl"
        path.write_text("".join(json.dumps(outcome) + "\n" for outcome in self.outcomes(events)))
        return path

    def write_truth(self, folder: Path) -> Path:
        """Write what the loop may not know: world, habits, people. Returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        truth = {
            "seed": self.seed,
            "fits": self.world.truth(),
            "pleasing": PLEASING,
            "habits": {n: {p: t.tolist() for p, t in habits(self.world, n).items()} for n in self.workflows},
            "constant": {n: self.constant(n) for n in self.workflows},
            "employees": [asdict(p) for team in self.staff.values() for p in team],
            "panel": [asdict(p) for team in self.panel.values() for p in team],
            "conduct": self.kinds,
        }
        path = folder / "world.json"
        path.write_text(json.dumps(truth, indent=1))
        return path
