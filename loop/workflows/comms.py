"""Communications: a draft that fits its reader and purpose. Any text is a draft; the known parts are looked for."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from loop.workflows.workflow import BAD, Function, Parts, Rule, Workflow, half_of, mix

FLATTERING: Final = "you are the best"
"""A lead that pleases and says nothing."""


def _signed(prompt: str, parts: Parts) -> float | None:
    return float("close" in parts) if "greeting" in parts else None


def _substantial(prompt: str, parts: Parts) -> float | None:
    return float(parts["lead"] != FLATTERING) if "lead" in parts else None


_BLANK: Final = re.compile(
    r"\[(?:your |the |recipient'?s? )?(?:name|company|date|title|address)\]|\{\{?\w+\}?\}|\blorem ipsum\b|\bTODO\b",
    re.IGNORECASE,
)


def _left_blank(prompt: str, text: str) -> str | None:
    return BAD if _BLANK.search(text) else None


def _shouted(prompt: str, text: str) -> str | None:
    letters = [sign for sign in text if sign.isalpha()]
    loud = len(letters) >= 20 and sum(map(str.isupper, letters)) > len(letters) / 2
    return BAD if loud or "!!" in text else None


COMMS: Final = Workflow(
    name="comms",
    description="Writers get a draft or the next sentence: greeting, lead, request and close.",
    parts={
        "greeting": ("Hello", "Greetings", "Good day", "Hi there", "Dear friend", "Esteemed reader"),
        "lead": ("good news", "quick note", "we regret", "as agreed", "thank you", FLATTERING),
        "ask": ("please confirm", "please call", "please review", "please visit", "please wait", "please sign"),
        "close": ("Regards", "Cheers", "Warmly", "Respectfully", "Yours", "Thanks"),
    },
    form="{greeting}, {lead}, {ask}. {close}",
    rules=(
        Rule("signed", "a draft that greets also closes", _signed),
        Rule("substantial", "the lead says something", _substantial),
    ),
    decision_mix=mix(accept=(0.02, 1.0), modify=(0.0, 1.0), reject=(0.0, 0.95)),
    attribution_window=timedelta(days=3),
    margin=0.075,
    groups={"recipient": half_of(r"\bto our \w+ (\w+) on\b")},
    outcomes={"reply": 1},
    functions=(
        Function("left_blank", "a blank that was never filled in", _left_blank),
        Function("shouted", "mostly capital letters, or several exclamation marks", _shouted),
    ),
    max_answer_tokens=32,
    max_answer_chars=20_000,
    max_prompt_chars=100_000,
    free_text=True,
)
