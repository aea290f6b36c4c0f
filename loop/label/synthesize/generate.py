"""Who writes synthetic answers: the current model, or a server that speaks OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from loop.errors import LoopError
from loop.workflows import WORKFLOWS

if TYPE_CHECKING:
    from loop.models import Messages

TEMPERATURE: Final = 1.0
_TIMEOUT_S: Final = 120.0


class Generator(Protocol):
    """Writes answers."""

    @property
    def version(self) -> str:
        """What `synthetic.model_version` says."""

    def write(self, prompts: Sequence[Messages], n: int, *, seed: int) -> list[list[str]]:
        """`n` answers to each prompt, or fewer where none came.

        Raises:
            LoopError: whoever writes cannot be reached or refuses.
        """


class Champion:
    """A model version of the home."""

    def __init__(self, version: str, folder: Path, workflow: str) -> None:
        self.version = version
        self._folder = folder
        self._most = WORKFLOWS[workflow].max_answer_tokens

    def write(self, prompts: Sequence[Messages], n: int, *, seed: int) -> list[list[str]]:
        from loop.models import Model

        sampled = Model.load(self._folder).sample(
            prompts, n=n, max_new_tokens=self._most, temperature=TEMPERATURE, seed=seed
        )
        return [[answer.text for answer in group if answer.finished] for group in sampled]


class Endpoint:
    """An OpenAI-compatible server. It is asked with the conversation as it stands."""

    def __init__(self, url: str, key: str | None, model: str, workflow: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        from openai import OpenAI

        self.version = f"endpoint:{model}"
        self._model = model
        self._most = WORKFLOWS[workflow].max_answer_tokens
        self._client = OpenAI(base_url=url, api_key=key or "none", timeout=timeout_s, max_retries=2)

    def write(self, prompts: Sequence[Messages], n: int, *, seed: int) -> list[list[str]]:
        from openai import OpenAIError

        try:
            return [self._answers(prompt, n, seed + i) for i, prompt in enumerate(prompts)]
        except OpenAIError as error:
            status = getattr(error, "status_code", None)
            why = f"status {status}" if status else type(error).__name__  # its text may quote the key
            raise LoopError(f"synthesis_url: the server cannot write answers now ({why}); nothing was kept") from None

    def _answers(self, prompt: Messages, n: int, seed: int) -> list[str]:
        """What the server gives, in its order; asked one by one for what it left out of `n`."""
        found: list[str] = []
        while len(found) < n:
            reply = self._client.chat.completions.create(
                model=self._model,
                messages=prompt,  # type: ignore[arg-type]
                n=n - len(found),
                temperature=TEMPERATURE,
                max_tokens=self._most,
                seed=seed + len(found),
            )
            texts = [choice.message.content or "" for choice in reply.choices if choice.finish_reason == "stop"]
            if not texts:
                break
            found += texts
        return found[:n]
