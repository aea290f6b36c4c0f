"""Serving: a model version answers requests with suggestions, each with what off-policy evaluation will need to know.

No transport belongs here: `loop run` calls `Server.suggest`, the gateway `Server.answer`, and each sends what comes
back. Which version serves a request is decided in arms.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import factorial, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from loop.errors import BadInputError, LoopError
from loop.evaluate.answers import SERVED, Decoding
from loop.release.order import order_propensity
from loop.weights import weights_digest
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    from loop.models import Messages, Model, Sample

ROWS: Final = 64
"""Answers sampled at once."""


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
    tokens: int
    """Tokens drawn, the end included."""
    finished: bool
    """Whether the model ended the answer itself."""


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
    """Probability of this order given the candidates: 1 / n! of `suggest`, of `answer` see there."""
    prompt_tokens: int | None = None
    """Tokens of the prompt that the model was shown; None where nobody counted."""

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
    def load(cls, version: str, folder: Path, *, digest: str) -> Self:
        """The version from its folder, tried out, and in memory of its own, so that no file is needed any more.

        Args:
            digest: `weights_digest` as it was recorded when the version was made.

        Raises:
            LoopError: files are missing or are not those of the version, or it does not answer.
        """
        from loop.models import Model

        found = weights_digest(folder)
        if found != digest:
            raise LoopError(
                f"{folder}: expected the weights of {version} ({digest[:12]}), found others ({found[:12]}); "
                "restore the folder from a copy"
            )
        model = Model.load(folder)
        model.leave_files()
        try:
            [[tried]] = model.sample([[{"role": "user", "content": version}]], n=1, max_new_tokens=1, seed=0)
        except (RuntimeError, IndexError) as error:  # what is not a number is no index of a token either
            raise LoopError(f"{folder}: expected a model that answers, got {error}") from error
        if not isfinite(tried.logprob):
            raise LoopError(f"{folder}: expected a model that answers, got a log-probability of {tried.logprob}")
        return cls(model, version)

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
        return [
            self._shown(
                request,
                drawn[request.request_id],
                seed=seed,
                order=_order(n, seed, request.request_id),
                order_propensity=1 / factorial(n),
            )
            for request in requests
        ]

    def answer(  # noqa: PLR0913 - one argument a fact
        self,
        requests: Sequence[Request],
        *,
        n: int,
        seeds: Sequence[int],
        most_tokens: int,
        decoding: Decoding | None = None,
        shuffle: bool = True,
        arm_propensity: float = 1.0,
    ) -> list[Suggestion]:
        """`n` candidates for each of the requests, which share a batch and nothing else, in the requests' order.

        Nothing is drawn again: candidates of equal text stay, and each log-probability is true of what was sampled. The
        order is drawn at random, and its propensity is that of the texts as they stand: of the n! orders, those that
        look the same. Without `shuffle` candidates stand by falling log-probability, with propensity 1.

        Args:
            seeds: one for each request.
            most_tokens: where sampling stops; see `most_tokens`.
            decoding: the server's own if None.

        Raises:
            BadInputError: as `suggest`; or the model's chat template refuses a prompt.
        """
        _check(requests, n)
        decoding = decoding or self.decoding
        try:
            prompts = [prompt.ids for prompt in self.model.encode_prompts([request.prompt for request in requests])]
        except Exception as error:  # a chat template raises what it likes at roles that it does not know
            raise BadInputError(f"messages: expected a conversation as {self.version} knows it; {error}") from error
        groups = self.model.sample_encoded(
            prompts,
            n=n,
            max_new_tokens=most_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=seeds,
            batch_size=ROWS,
        )
        found = []
        for request, prompt, samples, seed in zip(requests, prompts, groups, seeds, strict=True):
            falling = sorted(range(n), key=lambda i: (-samples[i].logprob, samples[i].text))
            found.append(
                self._shown(
                    request,
                    samples,
                    seed=seed,
                    order=_order(n, seed, request.request_id) if shuffle else falling,
                    order_propensity=order_propensity([s.text for s in samples]) if shuffle else 1.0,
                    arm_propensity=arm_propensity,
                    prompt_tokens=len(prompt),
                )
            )
        return found

    def _draw(self, requests: Sequence[Request], workflow: str, n: int, seed: int) -> list[list[Sample]]:
        groups = self._sample(requests, workflow, n, seed)
        again = [i for i, group in enumerate(groups) if len({sample.text for sample in group}) < n]
        if again:
            second = self._sample([requests[i] for i in again], workflow, n, number("again", seed))
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

    def _shown(  # noqa: PLR0913
        self,
        request: Request,
        samples: Sequence[Sample],
        *,
        seed: int,
        order: Iterable[int],
        order_propensity: float,
        arm_propensity: float = 1.0,
        prompt_tokens: int | None = None,
    ) -> Suggestion:
        ordered = [samples[i] for i in order]
        return Suggestion(
            suggestion_id=f"s-{number('suggestion', seed, request.request_id, self.version):016x}",
            request_id=request.request_id,
            workflow=request.workflow,
            prompt=request.prompt,
            candidates=tuple(
                Candidate(position, s.text, s.logprob, s.tokens, s.finished) for position, s in enumerate(ordered)
            ),
            model_version=self.version,
            arm_propensity=arm_propensity,
            order_propensity=order_propensity,
            prompt_tokens=prompt_tokens,
        )


def most_tokens(workflow: str, wanted: int | None = None) -> int:
    """Where sampling stops: at what the request wants, and never beyond what the workflow allows.

    Raises:
        BadInputError: the workflow is unknown.
    """
    if workflow not in WORKFLOWS:
        raise BadInputError(f"workflow: expected one of {', '.join(WORKFLOWS)}, got {workflow!r}")
    most = WORKFLOWS[workflow].max_answer_tokens
    return most if wanted is None else min(wanted, most)


def number(*parts: Any) -> int:
    """64 bits that depend on all parts."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _order(n: int, seed: int, request_id: str) -> list[int]:
    """An order of n candidates, drawn evenly."""
    order: list[int] = np.random.default_rng(number("order", seed, request_id)).permutation(n).tolist()
    return order


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
        most_tokens(request.workflow)
        if request.request_id in ids:
            raise BadInputError(f"request {request.request_id!r} comes twice; each needs an id of its own")
        ids.add(request.request_id)
