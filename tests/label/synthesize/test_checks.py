"""What a synthetic answer must pass."""

from __future__ import annotations

from loop.label.synthesize.checks import broken, leaked, nearest
from loop.workflows import WORKFLOWS

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
AD = "target newcomers with price angle, playful tone, claim tested, bid low"


def test_similarity_is_of_word_trigrams() -> None:
    found = nearest(["a b c d", "a b", "x", "A, b? c! d", ""], ["a b c e", "b a"])
    assert found.tolist() == [1 / 3, 1.0, 0.0, 1 / 3, 0.0]
    assert nearest(["a"], []).tolist() == [0.0]
    assert nearest([], ["a"]).tolist() == []
    assert nearest(["?"], ["?"]).tolist() == [0.0]  # no words are not the same words


def test_similarity_of_many_is_that_of_each() -> None:
    texts = [f"answer number {n} of the day {n % 7}" for n in range(2_100)]
    assert nearest(texts, texts).min() == 1.0
    assert nearest(texts[:1], texts[1:]).tolist() == nearest([texts[0]], texts[1:]).tolist()


def test_thirteen_words_of_the_benchmark_are_a_leak_and_twelve_are_none() -> None:
    words = LONG.split()
    asked = [f"please answer {LONG} now and in full and then some more of it"]
    inside = "something else entirely, then " + " ".join(words[:13]) + " and other things that nobody asked of anyone"
    twelve = "something else entirely, then " + " ".join(words[:12]) + " and other things that nobody asked of anyone"
    assert leaked([inside, twelve], asked, []).tolist() == [True, False]


def test_what_many_real_texts_have_is_a_form_and_no_leak() -> None:
    asked = [f"{LONG} for Jane who wants to know about her flight and her new luggage today"]
    real = [f"{LONG} for person {n} who is somebody else with other wishes altogether" for n in range(11)]
    mine = [f"{LONG} for Bob and his dog that likes to swim in the river on cold days"]
    assert leaked(mine, asked, real).tolist() == [False]
    assert leaked(mine, asked, real[:10]).tolist() == [True]
    assert leaked(asked, asked, real).tolist() == [True]  # the very same is


def test_rules_of_the_house_speak_against_an_answer() -> None:
    found, raised = broken(
        WORKFLOWS["ads"], ["budget tiny", "budget top", "budget top"], [AD, AD, "kill everybody with our shoes"]
    )
    assert found == [["rule: within_budget"], [], ["rule: format", "rule: cue_violence"]]
    assert raised == {}
    told, _ = broken(WORKFLOWS["comms"], ["somebody was killed"], ["We regret that somebody was killed."])
    assert told == [[]]  # the prompt speaks of it
