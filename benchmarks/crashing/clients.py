"""Clients that send again with the same key until they are answered, as a client must; and what they were told.

Two kinds of errand: whole events about suggestions made elsewhere, and suggestions of the front's own, which are
decided on at once, late or never, decided on again, and have outcomes.
"""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx

BATCH = 50
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
WORKFLOWS = ("ads", "comms")


@dataclass
class Suggestion:
    """One of the front's own, as it was answered, and the decisions on it that were acknowledged, in order."""

    suggestion_id: str
    model_version: str
    texts: list[str]
    decisions: list[str] = field(default_factory=list)


@dataclass
class Told:
    """What was sent and what of it was acknowledged. Of an event and an outcome: what must stand in the lake of it."""

    sent: set[str] = field(default_factory=set)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    suggestions: dict[str, Suggestion] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    """Answers that no kill explains."""


def event(key: str, number: int) -> dict[str, Any]:
    """A whole event whose final text is its own."""
    shown = START + timedelta(seconds=number % 3600)
    return {
        "event_id": key,
        "suggestion_id": f"elsewhere-{key}",
        "workflow": WORKFLOWS[number % 2],
        "shown_at": shown.isoformat(),
        "decided_at": (shown + timedelta(seconds=5)).isoformat(),
        "employee": f"person {number % 30}",
        "visibility": [],
        "prompt": [{"role": "user", "content": f"brief {number}"}],
        "candidates": [{"position": 0, "text": "first", "logprob": None}],
        "model_version": "theirs",
        "decision": "modify",
        "chosen": 0,
        "final_text": f"text of {key}",
        "reasons": [],
        "purposes": ["training", "evaluation"],
    }


class Client:
    """One tool at work, in a thread of its own."""

    def __init__(self, number: int, url: str, token: str, told: Told, stop: threading.Event) -> None:
        self.told, self.stop = told, stop
        self._number, self._url, self._token = number, url, token
        self._rng = random.Random(number)
        self._made = count()
        self._later: list[tuple[float, int, Callable[[], None]]] = []

    def run(self) -> None:
        headers = {"authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=self._url, headers=headers, timeout=5.0, trust_env=False) as self._http:
            while not self.stop.is_set():
                if self._later and self._later[0][0] <= time.monotonic():
                    heapq.heappop(self._later)[2]()
                else:
                    self._whole() if self._rng.random() < 0.3 else self._suggest()
            while self._later:  # what somebody has in mind is done, now if not later
                heapq.heappop(self._later)[2]()

    # -- errands ----------------------------------------------------------------------------------------------------

    def _whole(self) -> None:
        """One whole event, or a batch of them."""
        many = self._rng.random() < 0.25
        events = [event(self._key("e"), next(self._made)) for _ in range(BATCH if many else 1)]
        body = "\n".join(json.dumps(one) for one in events).encode()
        answer = self._send("/v1/feedback/batch" if many else "/v1/feedback", body, *(e["event_id"] for e in events))
        kept = ("suggestion_id", "model_version", "decision", "chosen", "final_text")
        for one, result in zip(events, answer.get("results", [answer]), strict=True):
            self._counted(result, one["event_id"])
            self.told.events[one["event_id"]] = {name: one[name] for name in kept} | {"texts": ["first"]}

    def _suggest(self) -> None:
        """Ask once: a suggestion whose answer is lost was shown to nobody."""
        asked = {"workflow": self._rng.choice(WORKFLOWS), "messages": [{"role": "user", "content": "a brief"}]}
        asked |= {"employee": f"person {self._number}", "n": 2}
        try:
            reply = self._http.post("/v1/suggestions", json=asked)
        except httpx.TransportError:
            time.sleep(0.02)
            return
        if reply.status_code != 200:
            self.told.answers[f"suggestions: {reply.status_code}"] += 1
            time.sleep(0.05)
            return
        made = reply.json()
        texts = [candidate["text"] for candidate in made["candidates"]]
        mine = Suggestion(made["suggestion_id"], made["model_version"], texts)
        self.told.suggestions[mine.suggestion_id] = mine
        draw = self._rng
        at = draw.choice((0.0, draw.uniform(0.0, 1.5), draw.uniform(2.0, 6.0)))  # before the sweep, or about then
        if draw.random() < 0.85:
            for _ in range(draw.choice((1, 1, 2, 3))):
                self._do(at, lambda: self._decide(mine))
                at += draw.uniform(0.0, 3.0)
        if draw.random() < 0.4:
            self._do(draw.uniform(0.0, 6.0), lambda: self._outcome(mine))

    def _decide(self, on: Suggestion) -> None:
        """Short feedback: the first decision, or one that revises it."""
        key, kind = self._key("d"), self._rng.choice(("accept", "modify", "reject"))
        told: dict[str, Any] = {"event_id": key, "suggestion_id": on.suggestion_id, "decision": kind}
        chosen = None if kind == "reject" else self._rng.randrange(len(on.texts))
        final = None
        if chosen is not None:
            told["chosen"], final = chosen, on.texts[chosen]
        if kind == "modify":
            told["final_text"] = final = f"text of {key}"
        self._counted(self._send("/v1/feedback", json.dumps(told).encode(), key), key)
        on.decisions.append(key)
        self.told.events[key] = {
            "suggestion_id": on.suggestion_id,
            "model_version": on.model_version,
            "decision": kind,
            "chosen": chosen,
            "final_text": final,
            "texts": on.texts,
        }

    def _outcome(self, of: Suggestion) -> None:
        key, value = self._key("o"), round(self._rng.uniform(0.0, 9.0), 3)
        told = {"outcome_id": key, "suggestion_id": of.suggestion_id, "name": "revenue", "value": value}
        body = json.dumps(told | {"observed_at": datetime.now(UTC).isoformat()}).encode()
        self._counted(self._send("/v1/outcomes", body, key), key)
        self.told.outcomes[key] = {name: told[name] for name in ("suggestion_id", "name", "value")}

    # -- sending ----------------------------------------------------------------------------------------------------

    def _key(self, kind: str) -> str:
        return f"{kind}-{self._number}-{next(self._made)}"

    def _do(self, seconds: float, errand: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._made), errand))

    def _send(self, path: str, body: bytes, *keys: str) -> dict[str, Any]:
        """The same again, also after `stop`, until it is answered."""
        self.told.sent.update(keys)
        while True:
            try:
                reply = self._http.post(path, content=body)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if reply.status_code == 200:
                return dict(reply.json())
            self.told.answers[str(reply.status_code)] += 1
            if reply.status_code in {400, 404, 409, 422}:
                self.told.refused.append(reply.text)
                return {"status": "refused"}
            time.sleep(0.05)

    def _counted(self, result: dict[str, Any], key: str) -> None:
        self.told.answers[result["status"]] += 1
        if result["status"] not in {"stored", "duplicate"}:
            self.told.refused.append(f"{key}: {result}")
