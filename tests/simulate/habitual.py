"""A stand-in for a base model: it answers as the base corpus does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from loop.simulate.corpus import answer, habits
from loop.simulate.organisation import Organisation, Request, Suggestion
from loop.simulate.prompts import read
from loop.simulate.streams import stream

MONDAY = date(2026, 1, 5)


class Base:
    """Serves two answers drawn from the organisation's old habits, as a perfectly pretrained base would."""

    def __init__(self, organisation: Organisation) -> None:
        self.organisation = organisation
        self.habits = {name: habits(organisation.world, name) for name in organisation.workflows}

    def suggest(self, request: Request) -> Suggestion:
        rng, brief = stream("base", request.id), read(request.workflow, request.prompt)
        texts = tuple(answer(rng, self.habits[request.workflow], brief) for _ in range(2))
        return Suggestion(id=f"s-{request.id}", model_version="base", candidates=texts, order_propensity=0.5)

    def day(self, day: date = MONDAY) -> list[dict[str, Any]]:
        return self.events(self.organisation.requests(day))

    def events(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        return [self.organisation.decide(request, self.suggest(request)) for request in requests]
