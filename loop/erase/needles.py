"""What would betray the subject in a text that no column names, and how it is masked without touching anything else.

What is looked for stands alone: a part of a longer word or id is another's. JSON is masked within its strings, so that
it stays JSON. An id that is shorter than `LONG` may be any word or number, and is not looked for in texts at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from loop.erase.subject import LONG, Subject, spellings

if TYPE_CHECKING:
    from loop.erase.plan import Plan

MASK: Final = "[erased]"
_HEAD: Final = 24
"""Characters of a text by which it is first looked for."""
_PATTERN: Final = 8_000
"""Characters of one regular expression: a longer one does not fit what RE2 gives it."""
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BEFORE: Final = r"(?:(?<![\w-])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))"
"""No word before it; an escape of JSON, which ends in a letter, is none."""


class Needles:
    """Texts that are looked for, many at once."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        named = plan.named
        ids = {*named.events, *named.suggestions, *named.outcomes, *plan.quarantined, *plan.label_tasks}
        own = {subject.given} if subject.telling else set()
        self.texts = spellings(own.union(subject.names, plan.texts, (key for key in ids if len(key) >= LONG)))
        self._patterns = list(_patterns(self.texts))

    def rows(self, column: Sequence[str | None]) -> list[int]:
        """Places of the texts that may hold any of them."""
        texts, found = pa.array(column, pa.string()), pa.array([False] * len(column))
        for pattern in self._patterns:
            found = pc.or_(found, pc.fill_null(pc.match_substring_regex(texts, pattern), False))
        return pc.indices_nonzero(found).to_pylist()  # type: ignore[no-any-return]

    def within(self, texts: Sequence[str]) -> bool:
        """Whether any of the texts holds any of them."""
        return any(self.mask(texts[at]) != texts[at] for at in self.rows(texts))

    def mask(self, text: str) -> str:
        """The text without them."""
        if is_json(text):
            return _STRING.sub(self._literal, text)
        return self._replaced(text, lambda _: MASK)

    def starred(self, text: str) -> str:
        """The text with a star for each of their bytes: as long as it was."""
        return self._replaced(text, lambda found: "*" * len(found[0].encode("utf-8", "surrogateescape")))

    def _replaced(self, text: str, by: Callable[[re.Match[str]], str]) -> str:
        for needle in self.texts:
            if needle in text:
                text = _alone(needle).sub(by, text)
        return text

    def _literal(self, literal: re.Match[str]) -> str:
        """A string of JSON, which may hold JSON in turn."""
        value = json.loads(literal[0], strict=False)
        masked = self.mask(value)
        return literal[0] if masked == value else json.dumps(masked, ensure_ascii=literal[0].isascii())


def is_json(text: str) -> bool:
    """Whether a text is a list, an object or a string of JSON."""
    if text.lstrip()[:1] not in {"{", "[", '"'}:
        return False
    try:
        json.loads(text, strict=False)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=10_000)
def _alone(needle: str) -> re.Pattern[str]:
    before = _BEFORE if re.match(r"[\w-]", needle) else ""
    after = r"(?![\w-])" if re.search(r"[\w-]$", needle) else ""
    return re.compile(before + re.escape(needle) + after)


def _patterns(texts: Sequence[str]) -> Iterator[str]:
    """Regular expressions that together find every text by its beginning."""
    part: list[str] = []
    size = 0
    for head in sorted({text[:_HEAD] for text in texts}):
        escaped = "".join(c if (c.isalnum() and c.isascii()) or ord(c) > 127 else f"\\x{{{ord(c):x}}}" for c in head)
        if part and size + len(escaped) > _PATTERN:
            yield "|".join(part)
            part, size = [], 0
        part.append(escaped)
        size += len(escaped)
    if part:
        yield "|".join(part)
