"""What the model is asked: the same prompts, as many at once, through the gateway and without it."""

from __future__ import annotations

from benchmarks.training import BATCH, pairs

WORKFLOW = "ads"
USERS = 32
CANDIDATES = 2
STEPS = 100
"""Of the base's pretraining: enough to end its answers as a champion does."""


def taught() -> list[tuple[list[dict[str, str]], str]]:
    """Pairs on which the base is pretrained."""
    return pairs(STEPS * BATCH)


def prompts() -> list[list[dict[str, str]]]:
    """A multiple of `USERS` of them, which come after those of `taught`."""
    return [prompt for prompt, _ in pairs(STEPS * BATCH + 32 * USERS)[STEPS * BATCH :]]
