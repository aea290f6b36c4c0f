"""What a workflow is: the parts of an answer, how it is written and read, its house rules and its limits.

What is *good* in a workflow is nowhere here: a rule knows formats and the house's own rules, never whether an answer
fits its prompt. That is learned from people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from string import Formatter
from typing import Final

Parts = Mapping[str, str]
"""Name of a part to its text: `{"tone": "playful", "bid": "low"}`."""

MEASURES: Final = ("format", "house_list", "length")
"""What every workflow's `grade` measures beside its own rules."""


@dataclass(frozen=True)
class Rule:
    """One house rule. `check(prompt, parts)` is 1 kept, 0 broken, None where the rule has nothing to say."""

    name: str
    meaning: str
    check: Callable[[str, Parts], float | None]


GOOD: Final = "good"
BAD: Final = "bad"
"""What a labelling function holds of an answer."""


@dataclass(frozen=True)
class Function:
    """A labelling function: a rule of thumb that is right more often than not, and silent where it does not apply.

    `vote(prompt, text)` is `GOOD` or `BAD`, the name of a category, or None, which abstains (Ratner et al. 2016, Data
    Programming, arXiv:1605.07723).
    """

    name: str
    meaning: str
    vote: Callable[[str, str], str | None]


def mentions(*words: str) -> Callable[[str], bool]:
    """Whether a text has any of the words, whole and whatever their case."""
    found = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE).search
    return lambda text: found(text) is not None


@dataclass(frozen=True)
class Workflow:
    """One kind of work in which people decide on suggestions.

    Example:
        >>> WORKFLOWS["ads"].parse("target newcomers with price angle, playful tone, claim tested, bid low")
        {'segment': 'newcomers', 'angle': 'price', 'tone': 'playful', 'claim': 'tested', 'bid': 'low'}
    """

    name: str
    """As in `schema.WORKFLOWS`."""
    description: str
    """One sentence: who does what, and what a suggestion is."""
    parts: Mapping[str, tuple[str, ...]]
    """The parts of an answer in the order in which they are written, each with the house's list of values."""
    form: str
    """How an answer is written: a format string over the parts."""
    rules: tuple[Rule, ...]
    """House rules beyond the format."""
    decision_mix: Mapping[str, tuple[float, float]]
    """Least and greatest share of each decision in a believable batch."""
    attribution_window: timedelta
    """How long after a decision an outcome is still put down to it."""
    margin: float
    """Non-inferiority: how far below 1/2 the challenger's win rate against the champion may lie (ties count half)."""
    max_answer_tokens: int = 24
    """Where sampling stops."""
    max_answer_chars: int = 400
    """Longer answers break the house rule `length`."""
    max_prompt_chars: int = 4_000
    """A longer prompt breaks the row contract."""
    groups: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)
    """What is protected, or stands for something that is, by name: from a prompt to its group, None where it says
    nothing of it. An answer should not depend on it; a model that widens a gap between such groups is not released."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Late results by name: 1 where more is better, -1 where less is. One that is not named is kept and not judged."""
    categories: str | None = None
    """The part whose values are what the thing that is decided on can be, so that people can be asked which it is."""
    cues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kinds of harm to words that tell of them in this workflow's texts, beside those that tell of them anywhere."""
    functions: tuple[Function, ...] = ()
    """Labelling functions of this workflow, beside those that its format, rules and cues make; see docs/deriving.md."""
    free_text: bool = False
    """Whether text outside the form is an answer too; known parts are then looked for wherever they stand."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """The form as a pattern: literals with any white space, parts as short texts without separators."""
        pattern = ""
        for literal, part, _, _ in Formatter().parse(self.form):
            pattern += r"\s+".join(re.escape(word) for word in re.split(r"\s+", literal))
            pattern += rf"(?P<{part}>[^,.;:\n]{{1,40}}?)" if part else ""
        return re.compile(pattern, re.IGNORECASE)

    @cached_property
    def _listed(self) -> dict[str, dict[str, str]]:
        """Part to case-folded value to the value as the house writes it."""
        return {part: {value.casefold(): value for value in values} for part, values in self.parts.items()}

    @cached_property
    def _mentions(self) -> dict[str, re.Pattern[str]]:
        """Part to a pattern that finds any of its listed values as whole words; longer values win."""
        return {
            part: re.compile(
                r"(?<!\w)(?:" + "|".join(re.escape(v) for v in sorted(values, key=len, reverse=True)) + r")(?!\w)",
                re.IGNORECASE,
            )
            for part, values in self.parts.items()
        }

    def parse(self, answer: str) -> dict[str, str] | None:
        """The parts of an answer, values as the house writes them where listed; None if it does not parse.

        With `free_text`, any text that is not blank parses, if only into the listed values that it mentions.
        """
        text = answer.strip()
        if self.free_text and text:
            found = {part: pattern.search(text) for part, pattern in self._mentions.items()}
            return {part: self._as_listed(part, match.group()) for part, match in found.items() if match}
        match = self._pattern.fullmatch(text) if len(text) <= self.max_answer_chars else None
        return {part: self._as_listed(part, value) for part, value in match.groupdict().items()} if match else None

    def render(self, parts: Parts) -> str:
        """An answer of these parts, all of which must be given. The inverse of `parse`."""
        return self.form.format(**parts)

    def grade(self, prompt: str, answer: str) -> dict[str, float]:
        """House rules kept, each from 0 to 1; a rule that has nothing to say on this answer is left out.

        `format`: it parses; `house_list`: share of the parts whose value is on the house's list; `length`: it is no
        longer than allowed; then the workflow's own rules by name.
        """
        parts = self.parse(answer)
        grades = {"format": float(parts is not None), "length": float(0 < len(answer) <= self.max_answer_chars)}
        if parts is None:
            return grades
        listed = sum(parts.get(part) in values for part, values in self.parts.items())
        if self.parts:
            grades["house_list"] = listed / len(self.parts)
        for rule in self.rules:
            if (verdict := rule.check(prompt, parts)) is not None:
                grades[rule.name] = verdict
        return grades

    def _as_listed(self, part: str, value: str) -> str:
        text = " ".join(value.split())
        return self._listed[part].get(text.casefold(), text)


def half_of(pattern: str) -> Callable[[str], str | None]:
    """Groups by the first letter, A to M or N to Z, of the word that the pattern's only group finds in a prompt.

    It stands for whatever a name may suggest of a person, where nothing better is known; a company that knows which of
    its names suggest what brings a mapping of its own.
    """
    find = re.compile(pattern).search

    def group(prompt: str) -> str | None:
        match = find(prompt)
        return None if match is None else "A-M" if match[1][:1].upper() <= "M" else "N-Z"

    return group


def mix(
    accept: tuple[float, float] = (0.02, 0.97),
    modify: tuple[float, float] = (0.0, 0.9),
    reject: tuple[float, float] = (0.0, 0.9),
    ignore: tuple[float, float] = (0.0, 0.7),
) -> dict[str, tuple[float, float]]:
    """Bounds on the decision mix of a batch: beyond them a client is broken or nobody reads."""
    return {"accept": accept, "modify": modify, "reject": reject, "ignore": ignore}
