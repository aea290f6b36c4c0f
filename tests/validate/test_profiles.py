from __future__ import annotations

import json
import zlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from loop.validate import profiles
from loop.validate.profiles import GRAMS, SMALL_TEAMS, Profile, grams, profile
from tests.rows import decision, interactions, ordinary_day


def test_a_day_is_counted() -> None:
    rows = [row | {"team": "blue" if n % 2 else "red"} for n, row in enumerate(ordinary_day(100))]
    told = profile(interactions(*rows))
    assert (told.rows, told.texts) == (100, 100)
    assert told.decisions.tolist() == [50, 20, 20, 10]
    assert {team: int(counts.sum()) for team, counts in told.teams.items()} == {"blue": 50, "red": 50}
    assert {kind: int(counts.sum()) for kind, counts in told.lengths.items()} == {"prompt": 100, "final": 70}
    assert told.lengths["prompt"].nonzero()[0].tolist() == [15, 16]  # 14 and 15 characters: 4 log2(15), 4 log2(16)
    assert told.words[zlib.crc32(b"draft")] == 100
    assert sum(told.languages.values()) == 70


def test_nobody_is_seen_in_a_small_team() -> None:
    rows = [decision(n, "accept", 0, "first", employee=f"p{n % 9}", team="nine") for n in range(60)]
    rows += [decision(100 + n, "reject", employee=f"q{n % 10}", team="ten") for n in range(60)]
    assert {team: counts.tolist() for team, counts in profile(interactions(*rows)).teams.items()} == {
        SMALL_TEAMS: [60, 0, 0, 0],
        "ten": [0, 0, 60, 0],
    }


def test_a_profile_comes_back_as_it_was_and_is_small() -> None:
    rows = [
        row | {"prompt": [{"role": "user", "content": f"word{n} other{n}"}]} for n, row in enumerate(ordinary_day(2000))
    ]
    told = profile(interactions(*rows))
    text = told.to_json()
    again = Profile.from_json(text)
    assert again.to_json() == text
    assert (again.rows, again.words, again.languages) == (told.rows, told.words, told.languages)
    assert np.array_equal(again.grams["final"], told.grams["final"])
    assert len(again.words) <= profiles.WORDS
    assert len(text) < 40_000
    assert not any(word in text for word in ("word7", "first", "person"))
    json.loads(text)


def test_a_day_without_rows_has_a_profile() -> None:
    told = profile(interactions())
    assert (told.rows, told.decisions.tolist(), told.teams, told.languages, told.words) == (0, [0, 0, 0, 0], {}, {}, {})
    assert Profile.from_json(told.to_json()).rows == 0


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8), st.integers(0, 3))
def test_no_gram_runs_over_the_end_of_a_text(texts: list[str], skipped: int) -> None:
    expected = np.zeros(GRAMS, np.int64)
    for text in texts[skipped:]:
        raw = text.encode()
        for i in range(len(raw) - 2):
            value = (raw[i] << 16 | raw[i + 1] << 8 | raw[i + 2]) * 2654435761 % 2**32
            expected[value >> 22] += 1
    given_texts = pa.chunked_array([pa.array(texts, pa.string()).slice(skipped)])
    assert np.array_equal(grams(given_texts), expected)
