"""Personal data between whoever asks and the model: the model and the store see placeholders, the asker sees values.

Values live as long as the request and are written nowhere. The patterns alone look for them here, whatever the home
asks for elsewhere: a front loads no models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loop.gateway.backend import Piece
from loop.gateway.wire import Message
from loop.privacy.masking import Veil
from loop.privacy.recognise import Find, Span, find

LONG = 20_000
"""Characters of a prompt beyond which it is masked in a thread: some milliseconds, during which others have turns."""


def finder(privacy: str) -> Find | None:
    """What looks for personal data in a front, given the setting; None if nothing does."""
    return None if privacy == "off" else find


class Hidden:
    """The values of one request, and what stands for them."""

    def __init__(self, looking: Find | None) -> None:
        self._veil = Veil(looking or _nothing)

    async def prompt(self, messages: Sequence[Message]) -> list[Message]:
        """The prompt as model and store are given it."""
        if sum(len(message.content) for message in messages) > LONG:
            return await asyncio.to_thread(self._prompt, messages)
        return self._prompt(messages)

    def stored(self, texts: Sequence[str]) -> list[str]:
        """The model's texts as they are stored: what it made up or remembers of people is masked too."""
        self._veil.reserve(texts)
        return [self._veil.mask(text) for text in texts]

    def shown(self, text: str) -> str:
        """A text with the values of this request in their places."""
        return self._veil.unmask(text)

    def begins(self, text: str) -> bool:
        """Whether it is the beginning of a placeholder of this request."""
        return any(name.startswith(text) for name in self._veil.values)

    def _prompt(self, messages: Sequence[Message]) -> list[Message]:
        self._veil.reserve([message.content for message in messages])
        return [Message(role=message.role, content=self._veil.mask(message.content)) for message in messages]


class Filling:
    """Fills values into texts that come in pieces; a placeholder may be cut by them, so its beginning waits."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._waiting: dict[int, str] = {}

    def next(self, piece: Piece) -> Piece:
        """What may be shown now; its text may be empty."""
        text = self._waiting.pop(piece.position, "") + piece.text
        cut = text.rfind("<")
        if cut >= 0 and self._hidden.begins(text[cut:]) and not text.endswith(">"):
            self._waiting[piece.position] = text[cut:]
            text = text[:cut]
        return Piece(piece.position, self._hidden.shown(text))

    def rest(self) -> list[Piece]:
        """What waited for an end that did not come."""
        left = [Piece(position, text) for position, text in sorted(self._waiting.items())]
        self._waiting.clear()
        return left


def _nothing(text: str) -> list[Span]:
    return []
