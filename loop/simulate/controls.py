"""Controls of the experiment: what the loop should make of decisions that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from loop.schema import Decision
from loop.simulate.streams import stream
from loop.workflows import BUILT_IN

Event = dict[str, Any]


def shuffle_decisions(events: Sequence[Event], seed: int) -> list[Event]:
    """The events with their decisions permuted within each workflow, so that they carry no information on quality.

    Every event takes over the decision, the chosen position, the time taken and the delay of another one. An accepted
    answer is the candidate at that position. An edit keeps only its size: it takes as many parts from the candidate
    beside the chosen one. Whatever text results was drawn from the served model alone, part by part, so that
    demonstrations are worth what was shown is worth, and either side of a pair is as often the better. (Had an edit
    carried over its values, those that are good for any prompt would have survived the shuffle.) Where there is
    nothing to take from beside it, an edit becomes an accept.

    Args:
        events: as sent by the client, of one or more workflows; order, ids and what was shown are kept.
    """
    shuffled = list(events)
    for workflow in BUILT_IN:
        places = [i for i, event in enumerate(events) if event["workflow"] == workflow]
        rng = stream(seed, "shuffle", workflow, *(events[i]["event_id"] for i in places))
        order = rng.permutation(places)
        for mine, other in zip(order, np.roll(order, 1), strict=True):
            shuffled[mine] = _with_decision_of(rng, events[mine], events[other])
    return shuffled


def _with_decision_of(rng: np.random.Generator, event: Event, other: Event) -> Event:
    taken = {name: other[name] for name in ("decision", "chosen", "dwell_ms", "reasons", "final_text")}
    shown = [candidate["text"] for candidate in event["candidates"]]
    if other["chosen"] is not None:
        chosen = min(int(other["chosen"]), len(shown) - 1)
        taken |= {"chosen": chosen, "final_text": shown[chosen], "reasons": []}
        if other["decision"] == Decision.MODIFY:
            beside = shown[(chosen + 1) % len(shown)]
            text, parts = _crossed(rng, event["workflow"], shown[chosen], beside, len(other["reasons"]))
            kind = Decision.MODIFY if parts else Decision.ACCEPT
            taken |= {"decision": kind.value, "final_text": text, "reasons": parts}
    begun = datetime.fromisoformat(event["shown_at"])
    decided = begun + timedelta(milliseconds=other["dwell_ms"]) if other["dwell_ms"] is not None else None
    delay = datetime.fromisoformat(other["received_at"]) - datetime.fromisoformat(other["shown_at"])
    return {
        **event,
        **taken,
        "decided_at": decided.isoformat() if decided else None,
        "received_at": (begun + delay).isoformat(),
    }


def _crossed(rng: np.random.Generator, workflow: str, text: str, beside: str, n: int) -> tuple[str, list[str]]:
    """`text` with `n` of the parts in which `beside` differs taken from there, and the names of those parts."""
    parse = BUILT_IN[workflow].parse
    parts, others = parse(text) or {}, parse(beside) or {}
    if set(parts) != set(BUILT_IN[workflow].parts) or set(others) != set(parts):
        return text, []
    differing = [part for part in parts if parts[part] != others[part]]
    swapped = [differing[i] for i in sorted(rng.permutation(len(differing))[:n])]
    crossed = {**parts, **{part: others[part] for part in swapped}}
    return (BUILT_IN[workflow].render(crossed) if swapped else text), swapped
