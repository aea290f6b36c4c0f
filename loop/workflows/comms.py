"""Communications: a draft that fits its reader and purpose. Any text is a draft; the known parts are looked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from loop.workflows.workflow import Parts, Rule, Workflow, half_of, mix

FLATTERING: Final = "you are the best"
"""A lead that pleases and says nothing."""


def _signed(prompt: str, parts: Parts) -> float | None:
    return float("close" in parts) if "greeting" in parts else None


def _substantial(prompt: str, parts: Parts) -> float | None:
    return float(parts["lead"] != FLATTERING) if "lead" in parts else None


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
    max_answer_tokens=32,
    max_answer_chars=20_000,
    max_prompt_chars=100_000,
    free_text=True,
)
