"""What a person's rating says of a suggestion: for it, against it, or nothing certain.

A word may say it by itself (`accepted`), a truth value by its name (`helpful: true`), a number by neither: 5 is best on
one scale and worst on another. What says nothing certain is never put down to a side; whoever imports may say what it
means with `--score NAME=DOWN:UP`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from loop import schema
from loop.collect.events import CLOCK_BACKWARDS, DELETED, WRITER_UNKNOWN
from loop.errors import BadInputError


class Verdict(StrEnum):
    """What one piece of feedback says."""

    UP = "up"
    DOWN = "down"
    CORRECTION = "correction"
    """A text that should have stood instead."""
    DECIDED = "decided"
    """The decision itself, in our own words."""
    UNCLEAR = "unclear"


def _of(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_UP: Final = _of(
    "up thumbsup thumbup upvote upvoted accept accepted approve approved like liked positive correct good 👍"
)
_DOWN: Final = _of(
    "down thumbsdown thumbdown downvote downvoted reject rejected disapprove disapproved dislike disliked negative",
    "incorrect bad 👎",
)
_TRUE: Final = _of("true yes pass passed")
_FALSE: Final = _of("false no fail failed")
_APPROVING: Final = _of(
    "thumb thumbs thumbsup up upvote feedback helpful helpfulness useful usefulness correct correctness accept",
    "accepted acceptance acceptable approve approved approval like liked good quality satisfied satisfaction right ok",
)
"""Names that whoever is content answers with yes have one of these words, and beside them only neutral ones."""
_NEUTRAL: Final = _of(
    "user users human customer person people employee editor expert reviewer annotator writer is was the this a",
    "response answer output suggestion result overall score rating vote verdict decision review",
)
_PERSONAL: Final = _of(
    "user users human customer person people employee editor expert reviewer annotator writer thumb thumbs thumbsup",
    "feedback vote like liked upvote accept accepted approve approved",
)
"""Names with one of these words are of people's ratings, where a format does not say who rated."""
_TEXTS: Final = _of(
    "expected correct corrected correction ideal golden gold ground truth reference response answer output text",
    "completion final target edited edit rewritten rewrite revised human better improved",
)
"""Names of these words alone are of texts that should have stood instead; others are of facts, guidelines, tests."""

_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|[^a-zA-Z]+")
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,29}")
_RESERVED: Final = frozenset((DELETED, CLOCK_BACKWARDS, WRITER_UNKNOWN))
"""Tags that mean something here, and would not where they came from."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the values of one score mean: `down` and beyond is against, `up` and beyond is for, between is neither."""

    down: str
    up: str

    def verdict(self, value: Any) -> Verdict:
        number, down, up = _number(value), _number(self.down), _number(self.up)
        if number is not None and down is not None and up is not None:
            sign = 1 if down < up else -1
            if sign * (number - up) >= 0:
                return Verdict.UP
            return Verdict.DOWN if sign * (number - down) <= 0 else Verdict.UNCLEAR
        word = _word(value)
        return Verdict.UP if word == _word(self.up) else Verdict.DOWN if word == _word(self.down) else Verdict.UNCLEAR


@dataclass(frozen=True)
class Reading:
    """How outside traces are to be read, where they do not say it themselves."""

    workflow: str | None = None
    """The workflow of the traces that name none."""
    scores: Mapping[str, Scale] = field(default_factory=dict)
    """Names of scores that are people's ratings, and what their values mean."""
    key: bytes = b""
    """The home's secret, under which a reviewer's id becomes part of a suggestion's; `sources.read` sets it."""


def reading(workflow: str | None, scores: Sequence[str]) -> Reading:
    """A reading from the words of a command line.

    Args:
        workflow: one of `schema.WORKFLOWS`.
        scores: each `NAME=DOWN:UP`, such as `stars=2:4` or `verdict=redo:ship`.

    Raises:
        BadInputError: there is no such workflow, or a score is not of this form.
    """
    if workflow is not None and workflow not in schema.WORKFLOWS:
        raise BadInputError(f"--workflow: expected one of {', '.join(schema.WORKFLOWS)}, got {workflow!r}")
    scales = {}
    for score in scores:
        name, _, values = score.partition("=")
        down, _, up = values.partition(":")
        if not (name and down and up) or _word(down) == _word(up) or (_number(down) == _number(up) is not None):
            raise BadInputError(
                f"--score: expected NAME=DOWN:UP, such as stars=2:4 or verdict=redo:ship, got {score!r}"
            )
        scales[name] = Scale(down, up)
    return Reading(workflow, scales)


def verdict(name: str, value: Any, scores: Mapping[str, Scale]) -> Verdict:
    """What a value says under its name: a truth value, a number, or a word."""
    if name in scores:
        return scores[name].verdict(value)
    word = _word(value)
    if word in _UP | _DOWN:
        return Verdict.UP if word in _UP else Verdict.DOWN
    names = words(name)
    if word in _TRUE | _FALSE and names & _APPROVING and names <= _APPROVING | _NEUTRAL:
        return Verdict.UP if word in _TRUE else Verdict.DOWN
    if names & {"thumb", "thumbs", "thumbsup"} and (number := _number(value)) in (1, -1):
        return Verdict.UP if number == 1 else Verdict.DOWN
    return Verdict.UNCLEAR


def of_person(name: str, scores: Mapping[str, Scale]) -> bool:
    """Whether a score is a person's by its name, where nothing else says who gave it."""
    return name in scores or bool(words(name) & _PERSONAL)


def of_text(name: str) -> bool:
    """Whether what is expected under this name is a text that should have stood instead."""
    names = words(name)
    return bool(names) and names <= _TEXTS


def words(name: str) -> frozenset[str]:
    """The words of a name, in lower case: `user_feedback`, `userFeedback` and `User feedback` have the same."""
    return frozenset(word.lower() for word in _CAMEL.split(name) if word)


def tags(comment: Any) -> tuple[str, ...] | None:
    """The reason tags that a comment is: short words without spaces, separated by commas. None where it is free text.

    What people write in whole sentences may say anything about anybody and teaches nothing here: it is not kept.
    """
    if not isinstance(comment, str) or len(comment) > 200:
        return None
    parts = [part.strip() for part in re.split(r"[,;|]", comment) if part.strip()]
    if not all(_TAG.fullmatch(part) for part in parts):
        return None
    return tuple(dict.fromkeys(part for part in parts if part not in _RESERVED))


def shown(value: Any) -> str:
    """A value as it may be repeated in an explanation: numbers and short words; of a text only its length."""
    if isinstance(value, bool | int | float) or value is None or (isinstance(value, str) and _TAG.fullmatch(value)):
        return str(value)
    return f"a text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"


def _word(value: Any) -> str:
    return re.sub(r"[\s_\-]+", "", str(value)).casefold()


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
