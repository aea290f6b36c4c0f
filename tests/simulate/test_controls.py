"""The shuffled control: what is left after the shuffle says nothing about quality."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from loop.simulate.controls import shuffle_decisions
from loop.simulate.organisation import Organisation
from loop.workflows import WORKFLOWS

SHUFFLES = 12


@pytest.fixture(scope="module")
def shuffles(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [shuffle_decisions(events, seed) for seed in range(SHUFFLES)]


def test_what_was_shown_stays_and_the_shuffle_is_reproducible(
    events: list[dict[str, Any]], shuffles: list[list[dict[str, Any]]]
) -> None:
    moved = {"decision", "chosen", "final_text", "reasons", "dwell_ms", "decided_at", "received_at"}
    for before, after in zip(events, shuffles[0], strict=True):
        assert {k: v for k, v in before.items() if k not in moved} == {k: v for k, v in after.items() if k not in moved}
        assert list(before) == list(after)
        assert after["shown_at"] <= (after["decided_at"] or after["shown_at"]) < after["received_at"]
    assert shuffle_decisions(events, 0) == shuffles[0] != shuffles[1]


def test_decisions_are_permuted_within_a_workflow(
    events: list[dict[str, Any]], shuffles: list[list[dict[str, Any]]]
) -> None:
    for workflow in WORKFLOWS:
        before = Counter(e["decision"] for e in events if e["workflow"] == workflow)
        after = Counter(e["decision"] for e in shuffles[0] if e["workflow"] == workflow)
        assert after["reject"] == before["reject"]
        assert after["ignore"] == before["ignore"]
        assert after["accept"] + after["modify"] == before["accept"] + before["modify"]
        assert 0 <= before["modify"] - after["modify"] <= 0.2 * before["modify"]


def test_a_shuffled_edit_takes_its_parts_from_the_other_candidate(shuffles: list[list[dict[str, Any]]]) -> None:
    for event in shuffles[0]:
        if event["decision"] == "modify":
            parse = WORKFLOWS[event["workflow"]].parse
            taken, beside = (parse(event["candidates"][i]["text"]) for i in (event["chosen"], 1 - event["chosen"]))
            final = parse(event["final_text"])
            assert {p for p in final if final[p] != taken[p]} == set(event["reasons"])
            assert all(final[part] == beside[part] for part in event["reasons"])
            assert 1 <= len(event["reasons"]) <= 2


def test_demonstrations_are_worth_what_was_shown_and_pairs_are_even(
    organisation: Organisation, events: list[dict[str, Any]], shuffles: list[list[dict[str, Any]]]
) -> None:
    def worth(event: dict[str, Any], text: str) -> float:
        return organisation.utility(event["workflow"], event["prompt"], text)

    def kept(day: list[dict[str, Any]]) -> np.ndarray:
        """Of what was kept: its utility, and its lead over what was shown beside it."""
        rows = []
        for event in day:
            if event["final_text"]:
                mine, *shown = (
                    worth(event, t) for t in (event["final_text"], *(c["text"] for c in event["candidates"]))
                )
                rows.append((mine, mine - shown[1 - event["chosen"]], mine - shown[event["chosen"]]))
        return np.array(rows)

    shown = np.mean([worth(event, c["text"]) for event in events for c in event["candidates"]])
    honest, null = kept(events), np.concatenate([kept(day) for day in shuffles])
    assert honest[:, 0].mean() > shown + 0.15
    assert null[:, 0].mean() == pytest.approx(shown, abs=0.015)
    assert honest[:, 1].mean() > 0.2
    assert null[:, 1].mean() == pytest.approx(0, abs=0.015)
    assert null[:, 2].mean() == pytest.approx(0, abs=0.015)
    apart = null[null[:, 1] != 0, 1]
    assert (apart > 0).mean() == pytest.approx(0.5, abs=0.02)


def test_texts_that_do_not_parse_are_kept_as_they_are(events: list[dict[str, Any]]) -> None:
    broken = [{**e, "candidates": [{**c, "text": f"?{c['position']}"} for c in e["candidates"]]} for e in events]
    after = shuffle_decisions(broken, 0)
    assert not [e for e in after if e["decision"] == "modify"]
    assert all(e["final_text"] == f"?{e['chosen']}" for e in after if e["decision"] == "accept")


def test_one_event_alone_keeps_its_decision(events: list[dict[str, Any]]) -> None:
    [after] = shuffle_decisions(events[:1], 0)
    assert (after["decision"], after["chosen"]) == (events[0]["decision"], events[0]["chosen"])
