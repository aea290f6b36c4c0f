"""What was suggested: the record of one request for candidates, kept so that a short feedback becomes a whole event.

Made where suggestions are served and looked up where feedback comes in; it stands here because the intake stores it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec


class Message(msgspec.Struct):
    """One message of the prompt."""

    role: str
    content: str


class Candidate(msgspec.Struct):
    """One candidate as shown; `position` counts from 0."""

    position: int
    text: str
    logprob: float | None = None


class SuggestionRecord(msgspec.Struct, kw_only=True):
    """One suggestion. Example: id `s-019a5e3f2c4d9f...`, workflow `ads`, two candidates, order_propensity 0.5."""

    suggestion_id: str
    """`s-`, the time in milliseconds as 12 hexadecimal digits, 20 random ones: ids sort by time."""
    workflow: str
    shown_at: Annotated[datetime, msgspec.Meta(tz=True)]
    messages: list[Message]
    candidates: list[Candidate]
    """In order of position."""
    model_version: str
    arm_propensity: float | None
    order_propensity: float | None
    employee: str | None
    """The pseudonym; None where the request did not say who asked."""
    team: str | None = None
    region: str | None = None
    episode_id: str | None = None
    turn: int | None = None
    task_id: str | None = None
    visibility: list[str] = []
    purposes: list[str] = []
    token_id: str
