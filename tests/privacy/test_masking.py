"""Placeholders: the same for the same value, never twice for two, and only once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from loop.privacy.masking import Veil, follow, mask, mask_raw
from loop.privacy.recognise import find
from tests.privacy.test_recognise import PIECES

MAIL, OTHER, PHONE = "jane@example.org", "max@example.org", "+49 30 1234567"


def test_the_same_value_has_the_same_placeholder_in_every_text() -> None:
    texts, counts = mask([f"From {MAIL} to {OTHER}", None, "", f"{OTHER}, {PHONE}"], find)
    assert texts == [
        "From <EMAIL_ADDRESS_1> to <EMAIL_ADDRESS_2>",
        None,
        "",
        "<EMAIL_ADDRESS_2>, <PHONE_NUMBER_1>",
    ]
    assert counts == {"EMAIL_ADDRESS": 3, "PHONE_NUMBER": 1}


def test_numbers_that_stand_in_any_of_the_texts_are_not_given_again() -> None:
    texts, _ = mask([f"{MAIL} {PHONE}", "<EMAIL_ADDRESS_3> and <URL_1>"], find)
    assert texts == ["<EMAIL_ADDRESS_4> <PHONE_NUMBER_1>", "<EMAIL_ADDRESS_3> and <URL_1>"]


def test_another_spelling_is_another_value() -> None:
    assert mask(["A@example.org a@example.org"], find)[0] == ["<EMAIL_ADDRESS_1> <EMAIL_ADDRESS_2>"]


TEXTS = st.lists(st.lists(PIECES, max_size=8).map("".join), min_size=1, max_size=4)


@given(TEXTS)
@examples(max_examples=300)
def test_masked_texts_hold_nothing_to_mask(texts: list[str]) -> None:
    once, _ = mask(texts, find)
    again, counts = mask(once, find)
    assert again == once
    assert not counts


@given(TEXTS)
@examples(max_examples=300)
def test_texts_are_equal_after_masking_if_and_only_if_they_were_before(texts: list[str]) -> None:
    once, _ = mask(texts, find)
    assert [[a == b for b in once] for a in once] == [[a == b for b in texts] for a in texts]


@given(TEXTS)
@examples(max_examples=300)
def test_whoever_holds_the_values_can_fill_them_in_again(texts: list[str]) -> None:
    veil = Veil(find)
    veil.reserve(texts)
    assert [veil.unmask(veil.mask(text)) for text in texts] == texts


# -- a text that was made of a masked one -----------------------------------------------------------------------------

SHOWN = "Dear <EMAIL_ADDRESS_2>,\nwe call you on <PHONE_NUMBER_1> or <PHONE_NUMBER_2>.\nYours"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Dear {MAIL},\nwe call you on {PHONE} or 030 765 4321.\nYours", SHOWN),
        (
            f"Dear {MAIL},\nwe ring you on {PHONE}.\nYours",
            "Dear <EMAIL_ADDRESS_2>,\nwe ring you on <PHONE_NUMBER_1>.\nYours",
        ),
        (f"Something else, {OTHER}", f"Something else, {OTHER}"),
        ("Dear you,\nYours", "Dear you,\nYours"),
        (SHOWN, SHOWN),
    ],
)
def test_values_take_the_places_of_what_was_shown(text: str, expected: str) -> None:
    assert follow(text, SHOWN, find) == expected


def test_a_long_text_is_followed_only_where_it_is_the_same() -> None:
    words = "word " * 5_000
    assert follow(words + MAIL, f"{words}<EMAIL_ADDRESS_7>", find) == f"{words}<EMAIL_ADDRESS_7>"
    changed = f"word {words}{MAIL}"
    assert follow(changed, f"{words}<EMAIL_ADDRESS_7>", find) == changed


# -- rows that are kept as they came ----------------------------------------------------------------------------------


def test_raw_json_is_masked_inside_and_ids_are_left() -> None:
    raw = json.dumps({"event_id": "4539988915720591", "a": {"b": [f"to {MAIL}", 4539988915720591, 1.5, None, True]}})
    masked, told, counts = mask_raw(raw, f"field {MAIL}: no", find, ids=frozenset({"event_id"}))
    assert json.loads(masked) == {
        "event_id": "4539988915720591",
        "a": {"b": ["to <EMAIL_ADDRESS_1>", "<CREDIT_CARD_1>", 1.5, None, True]},
    }
    assert told == "field <EMAIL_ADDRESS_1>: no"
    assert counts == {"EMAIL_ADDRESS": 2, "CREDIT_CARD": 1}


@pytest.mark.parametrize(
    "raw", ['{"a": "b",\n "n": 1.50 }', "garbage \\u0041", "[" * 10_000, "", "null", '{"a":1,"a":2}']
)
def test_raw_without_personal_data_stays_as_it_is(raw: str) -> None:
    assert mask_raw(raw, "why", find) == (raw, "why", {})


def test_raw_that_is_no_json_is_masked_throughout_however_it_is_spelled() -> None:
    assert mask_raw(r'{"a": "jane\u0040example.org", "b', "", find)[0] == '{"a": "<EMAIL_ADDRESS_1>", "b'


def test_half_a_surrogate_pair_stays_an_escape() -> None:
    raw, told, _ = mask_raw(r'{"a": "\ud800 é jane@example.org"}', "", find)
    assert raw == r'{"a": "\ud800 \u00e9 <EMAIL_ADDRESS_1>"}'
    assert told == ""
