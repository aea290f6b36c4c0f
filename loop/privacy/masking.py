"""Typed placeholders in the place of personal data, the same for the same value throughout one interaction.

    "Write to jane@example.org, not to max@example.org"  ->  "Write to <EMAIL_ADDRESS_1>, not to <EMAIL_ADDRESS_2>"

The same value is the same spelling: texts that differ stay different, and texts that are equal stay equal, so that what
the contract says of a decision's texts holds after masking as before. Values are kept nowhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final

from loop.privacy.recognise import PLACEHOLDER, Find, Span

Counts = Counter[str]
"""Spans that were masked, by type."""


@dataclass
class Veil:
    """The placeholders of one interaction."""

    find: Find
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    """Type and value to the placeholder."""
    values: dict[str, str] = field(default_factory=dict)
    """Placeholder to the value that it stands for here."""
    counts: Counts = field(default_factory=Counter)
    _last: Counts = field(default_factory=Counter)

    def reserve(self, texts: Sequence[str]) -> None:
        """Leave the numbers of placeholders that stand in these texts to whatever they stand for."""
        for text in texts:
            if "<" in text:
                for found in PLACEHOLDER.finditer(text):
                    self._last[found[1]] = max(self._last[found[1]], int(found[2]))

    def mask(self, text: str) -> str:
        """The text with a placeholder for each span of personal data. Reserve the numbers of all texts before."""
        spans = self.find(text)
        return self.put(text, spans) if spans else text

    def put(self, text: str, spans: Sequence[Span]) -> str:
        """The text with a placeholder for each of these spans."""
        parts: list[str] = []
        at = 0
        for span in spans:
            parts += text[at : span.start], self._name(span.type, text[span.start : span.end])
            at = span.end
        return "".join((*parts, text[at:]))

    def unmask(self, text: str) -> str:
        """The text with the values that this interaction's placeholders stand for."""
        if not self.values or "<" not in text:
            return text
        return PLACEHOLDER.sub(lambda found: self.values.get(found[0], found[0]), text)

    def _name(self, type_: str, value: str) -> str:
        self.counts[type_] += 1
        name = self.names.get((type_, value))
        if name is None:
            self._last[type_] += 1
            name = self.names[type_, value] = f"<{type_}_{self._last[type_]}>"
            self.values[name] = value
        return name


def mask(texts: Sequence[str | None], find: Find) -> tuple[list[str | None], Counts]:
    """The texts of one interaction masked, and how many spans there were; None stays None."""
    veil = Veil(find)
    veil.reserve([text for text in texts if text])
    return [veil.mask(text) if text else text for text in texts], veil.counts


# -- a text that was made of a masked one -----------------------------------------------------------------------------

_WORD: Final = re.compile(r"\s+|[^\s<]+|<")
_WORDS: Final = 2_000
"""Longest texts, in words, of which is found out what corresponds to what; the time grows with their product."""


def follow(text: str, shown: str, find: Find) -> str:
    """A text with the placeholders of the suggestion that it was made of, where it holds values in their places.

    A person is shown a suggestion with the values filled in and sends back a text that holds them; nobody knows any
    more which value was which placeholder's, but where the text goes on as the suggestion does it shows. What stands
    nowhere in the suggestion stays as it is.
    """
    if "<" not in shown or not PLACEHOLDER.search(shown):
        return text
    spans = find(text)
    if not spans:
        return text
    theirs, ours = _words(text, spans), _words(shown, _placed(shown))
    if max(len(theirs), len(ours)) > _WORDS:
        return shown if [_key(w) for w in theirs] == [_key(w) for w in ours] else text
    matcher = SequenceMatcher(None, [_key(w) for w in theirs], [_key(w) for w in ours], autojunk=False)
    told = [word for word, _ in theirs]
    for block in matcher.get_matching_blocks():
        alike = theirs[block.a : block.a + block.size]
        if block.size < len(ours) and all(type_ is not None or word.isspace() for word, type_ in alike):
            continue  # they have nothing in common but that each holds such a value
        for i in range(block.size):
            if theirs[block.a + i][1] is not None:
                told[block.a + i] = ours[block.b + i][0]
    return "".join(told)


def made_of(text: str, shown: str, find: Find, *, edited: bool) -> str:
    """`follow`, for the text that somebody made of a suggestion.

    An edit that would come out as the suggestion itself changed nothing but values: whether it fills in what was left
    out or puts another in its place nobody can tell, and it stays an edit.
    """
    followed = follow(text, shown, find)
    return text if edited and followed == shown else followed


def _placed(text: str) -> list[Span]:
    return [Span(m.start(), m.end(), m[1], 1.0) for m in PLACEHOLDER.finditer(text)]


def _words(text: str, spans: Sequence[Span]) -> list[tuple[str, str | None]]:
    """Words and the blanks between them, each with its type if it is a span."""
    words: list[tuple[str, str | None]] = []
    at = 0
    for span in spans:
        words += ((word, None) for word in _WORD.findall(text[at : span.start]))
        words.append((text[span.start : span.end], span.type))
        at = span.end
    return words + [(word, None) for word in _WORD.findall(text[at:])]


def _key(word: tuple[str, str | None]) -> tuple[str, bool]:
    """What makes two words the same: the type of a span, the word itself otherwise."""
    text, type_ = word
    return (text, False) if type_ is None else (type_, True)


# -- rows that are kept as they came ----------------------------------------------------------------------------------

_ESCAPE: Final = re.compile(r"\\u00(2[013-9a-fA-F]|[346][0-9a-fA-F]|5[0-9abd-fABD-F]|7[0-9a-eA-E])")
"""Printable ASCII as JSON may spell it, but for the quote and the backslash, which say where a string ends."""


def mask_raw(raw: str, explanation: str, find: Find, *, ids: frozenset[str] = frozenset()) -> tuple[str, str, Counts]:
    """A row as it came, and what was said of it, masked; and how many spans there were.

    JSON is masked in its strings and numbers, so that it stays JSON; where the row is none, or repeats a key, it is
    masked throughout.

    Args:
        ids: keys of the outermost object whose values are left alone, for rows are known again by them.
    """
    veil = Veil(find)
    veil.reserve([raw, explanation])
    try:
        value = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        spelled = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), raw)
        masked = veil.mask(spelled)
        masked = masked if veil.counts else raw
    else:
        hidden = _inside(value, veil, ids)
        masked = _dumped(hidden) if veil.counts else raw
    return masked, veil.mask(explanation), veil.counts


def _dumped(value: Any) -> str:
    """JSON as text that can be stored: half a surrogate pair stays an escape, as it came."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or not _SURROGATE.search(text) else json.dumps(value)


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated: of its values only the last would be looked at")
    return value


def _inside(value: Any, veil: Veil, ids: frozenset[str] = frozenset()) -> Any:
    match value:
        case str():
            return veil.mask(value)
        case dict():
            return {veil.mask(name): inner if name in ids else _inside(inner, veil) for name, inner in value.items()}
        case list():
            return [_inside(inner, veil) for inner in value]
        case int() | float() if not isinstance(value, bool):
            told = veil.mask(json.dumps(value))
            return value if told == json.dumps(value) else told
        case _:
            return value
