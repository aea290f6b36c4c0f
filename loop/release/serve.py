"""Serving: the champion answers requests with suggestions, each with what off-policy evaluation will need to know.

No transport belongs here: `loop run` and the gateway call `Server.suggest` and send what comes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.evaluate.answers import SERVED, Decoding
from loop.release.releases import champion_now, model_version
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    from loop.models import Messages, Model, Sample
    from loop.state import State


@dataclass(frozen=True)
class Request:
    """Somebody at work wants a suggestion."""

    request_id: str
    """The asker's key: asked again with it, the same model gives the same suggestion."""
    workflow: str
    prompt: Messages


@dataclass(frozen=True)
class Candidate:
    """One answer as it stands on the screen. Fields as in `schema.CANDIDATES`."""

    position: int
    text: str
    logprob: float
    """Nats, under the distribution sampled from."""


@dataclass(frozen=True)
class Suggestion:
    """What is shown for one request."""

    suggestion_id: str
    request_id: str
    workflow: str
    prompt: Messages
    candidates: tuple[Candidate, ...]
    """In order of position."""
    model_version: str
    arm_propensity: float
    """Probability with which this model version served: 1 as long as only the champion serves."""
    order_propensity: float
    """Probability of this order, 1 / n!."""

    @property
    def distinct(self) -> int:
        """Different texts among the candidates."""
        return len({candidate.text for candidate in self.candidates})


class Server:
    """One model version, loaded to answer."""

    def __init__(self, model: Model, version: str, *, decoding: Decoding = SERVED) -> None:
        self.model = model
        self.version = version
        self.decoding = decoding

    @classmethod
    def champion(cls, settings: Settings, state: State) -> Server:
        """The champion as of now.

        Raises:
            LoopError: the home has no champion yet.
        """
        from loop.models import Model

        version = champion_now(state)
        if version is None:
            raise LoopError("this home has no champion yet; `loop run` or `loop cycle` makes the base first")
        return cls(Model.load(settings.home / model_version(state, version).path), version)

    def suggest(self, requests: Sequence[Request], *, n: int = 2, seed: int) -> list[Suggestion]:
        """`n` candidates for each request, in the requests' order.

        Candidates are sampled as evaluation samples them, and shown in an order drawn at random. A candidate whose text
        stands already is drawn once more; if it is the same again it stays, and `Suggestion.distinct` says so.
        What a request gets depends on the seed, its id, its prompt and the model, not on what is asked beside it; where
        several requests of one call have the same prompt, on their order too.

        Raises:
            BadInputError: a workflow is unknown, a request id comes twice, or n is less than 1.
        """
        _check(requests, n)
        drawn: dict[str, list[Sample]] = {}
        for workflow in sorted({request.workflow for request in requests}):
            asked = [request for request in requests if request.workflow == workflow]
            drawn |= dict(zip((r.request_id for r in asked), self._draw(asked, workflow, n, seed), strict=True))
        return [self._shown(request, drawn[request.request_id], seed) for request in requests]

    def _draw(self, requests: Sequence[Request], workflow: str, n: int, seed: int) -> list[list[Sample]]:
        groups = self._sample(requests, workflow, n, seed)
        again = [i for i, group in enumerate(groups) if len({sample.text for sample in group}) < n]
        if again:
            second = self._sample([requests[i] for i in again], workflow, n, _number("again", seed))
            for i, spare in zip(again, second, strict=True):
                groups[i] = _without_repeats(groups[i], spare)
        return groups

    def _sample(self, requests: Sequence[Request], workflow: str, n: int, seed: int) -> list[list[Sample]]:
        return self.model.sample(
            [request.prompt for request in requests],
            n=n,
            max_new_tokens=WORKFLOWS[workflow].max_answer_tokens,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            seed=seed,
        )

    def _shown(self, request: Request, samples: Sequence[Sample], seed: int) -> Suggestion:
        order = np.random.default_rng(_number("order", seed, request.request_id)).permutation(len(samples))
        return Suggestion(
            suggestion_id=f"s-{_number('suggestion', seed, request.request_id, self.version):016x}",
            request_id=request.request_id,
            workflow=request.workflow,
            prompt=request.prompt,
            candidates=tuple(
                Candidate(position, samples[i].text, samples[i].logprob) for position, i in enumerate(order)
            ),
            model_version=self.version,
            arm_propensity=1.0,
            order_propensity=1 / factorial(len(samples)),
        )


def _without_repeats(first: Sequence[Sample], spare: Sequence[Sample]) -> list[Sample]:
    """The first draw, each repeated text replaced by the next new one of the second while there are any."""
    kept: list[Sample] = []
    texts = {sample.text for sample in first}
    fresh = iter(spare)
    for sample in first:
        if sample.text in {earlier.text for earlier in kept}:
            replacement = next((s for s in fresh if s.text not in texts), sample)
            texts.add(replacement.text)
            kept.append(replacement)
        else:
            kept.append(sample)
    return kept


def _check(requests: Sequence[Request], n: int) -> None:
    if n < 1:
        raise BadInputError(f"n: expected at least 1 candidate, got {n}")
    ids: set[str] = set()
    for request in requests:
        if request.workflow not in WORKFLOWS:
            raise BadInputError(f"workflow: expected one of {', '.join(WORKFLOWS)}, got {request.workflow!r}")
        if request.request_id in ids:
            raise BadInputError(f"request {request.request_id!r} comes twice; each needs an id of its own")
        ids.add(request.request_id)


def _number(*parts: Any) -> int:
    """64 bits that depend on all parts."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
