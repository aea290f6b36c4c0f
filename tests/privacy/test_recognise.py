"""What is found in a text, where, and in which time."""

from __future__ import annotations

import re
import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from loop.errors import BadInputError
from loop.privacy.numbers import luhn
from loop.privacy.recognise import SUSPICIOUS, Span, find, recogniser, resolved

FOUND = {
    "jane@example.org": "EMAIL_ADDRESS",
    "jane.o'neil+news@mail.example.co.uk": "EMAIL_ADDRESS",
    "münchen@exämple.de": "EMAIL_ADDRESS",
    "+49 (0)30 1234567": "PHONE_NUMBER",
    "+1 650 253 0000": "PHONE_NUMBER",
    "(030) 1234-567": "PHONE_NUMBER",
    "001-420-335-7509x38548": "PHONE_NUMBER",
    "1-800-555-1234": "PHONE_NUMBER",
    "555.123.4567": "PHONE_NUMBER",
    "0477 11 28 98": "PHONE_NUMBER",
    "02.27.96.63.08": "PHONE_NUMBER",
    "".join(chr(0x660 + int(c)) if c.isdigit() else c for c in "050-1234567"): "PHONE_NUMBER",  # Arabic digits
    "4539988915720591": "CREDIT_CARD",
    "4539 9889 1572 0591": "CREDIT_CARD",
    "3782-822463-10005": "CREDIT_CARD",
    "GB13PLUO53932440748460": "IBAN_CODE",
    "de89 3704 0044 0532 0130 00": "IBAN_CODE",
    "192.168.0.17": "IP_ADDRESS",
    "2001:db8::ff00:42:8329": "IP_ADDRESS",
    "::ffff:192.0.2.128": "IP_ADDRESS",
    "00:1B:44:11:3A:B7": "MAC_ADDRESS",
    "https://example.org/a?b=(c)": "URL",
    "www.example.org": "URL",
    "531-21-7351": "US_SSN",
    "912-70-1234": "US_ITIN",
    "RSSMRA85T10A562S": "IT_FISCAL_CODE",
    "12345678Z": "ES_NIF",
    "X1234567L": "ES_NIE",
    "AB 12 34 56 C": "UK_NINO",
    "131052-308T": "FI_PERSONAL_IDENTITY_CODE",
    "756.9217.0769.85": "CH_AHV",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": "CRYPTO",
}


@pytest.mark.parametrize("before", ["", "see: ", "שלום ", "😀", "(", "\n"])
@pytest.mark.parametrize("behind", ["", " today", ".", ") ", "\n", " עולם"])
@pytest.mark.parametrize("value", FOUND)
def test_it_is_found_at_its_place(value: str, before: str, behind: str) -> None:
    text = before + value + behind
    (span,) = find(text)
    assert (text[span.start : span.end], span.type) == (value, FOUND[value])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("You can call 449 4898 now", "449 4898"),
        ("Phone: 25-62-29-72", "25-62-29-72"),
        ("2546712361 fax", "2546712361"),
        ("my number is 5551234567", "5551234567"),
        ("Rufnummer 22 498317", "22 498317"),
    ],
)
def test_what_might_be_anything_is_a_telephone_number_where_a_word_says_so(text: str, value: str) -> None:
    (span,) = find(text)
    assert (text[span.start : span.end], span.type, span.score) == (value, "PHONE_NUMBER", 0.6)
    assert find(value) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "on 2026-01-05 at 14:48:14, or 05.12.2023 10:00",
        "2023-01-05T10:00:00.000123456Z",
        "from 1990-2000 and 2012-2013",
        "the seasons 2019 2020 2021",
        "order number 1234567, invoice 2026-000123",
        "1,200,000 and 1.500.000 and 10 000 000 people; call 10 000 000",
        "pi is 3.14159265, a weight of 0.123456789",
        "ISBN 978-0-306-40615-7, ISBN 0-306-40615-2",
        "version 1.2.3.4 of std::cout and a::b and ::1",
        "999.1.2.3 is no address, nor is 1.2.3",
        "user@host and @handle and a @ b",
        "4539988915720592",  # Luhn
        "GB14PLUO53932440748460",  # mod 97
        "000-12-3456 666-12-3456",
        "019a5e3f-2c4d-7abc-8123-456789012345",
        "12345678-1234-1234-1234-123456789012",
        "$4,500-$5,500 for 30-40 units, 100 200 3000 units",
        "p_0123456789abcdef0123456789abcdef",
    ],
)
def test_it_is_no_personal_data(text: str) -> None:
    assert find(text) == []


def test_a_dash_behind_a_number_is_none_of_it() -> None:
    assert [(s.start, s.end) for s in find("718-622-0221 - 24 hours")] == [(0, 12)]


def test_a_card_is_a_card_though_a_telephone_number_might_begin_in_it() -> None:
    text = "call me, my card is 4539 9889 1572 0591 and my line 030 1234 5678"
    assert [(text[s.start : s.end], s.type) for s in find(text)] == [
        ("4539 9889 1572 0591", "CREDIT_CARD"),
        ("030 1234 5678", "PHONE_NUMBER"),
    ]


def test_the_better_of_two_that_overlap_counts_whatever_the_order() -> None:
    spans = [
        Span(0, 5, "A", 0.5),
        Span(4, 9, "B", 0.9),
        Span(8, 12, "C", 0.5),
        Span(4, 9, "A", 0.9),
        Span(0, 4, "C", 0.5),
    ]
    expected = [Span(0, 4, "C", 0.5), Span(4, 9, "A", 0.9)]
    assert resolved(spans) == resolved(spans[::-1]) == expected


@given(st.integers(0, 10**18))
def test_luhn_takes_one_check_digit_and_no_other(number: int) -> None:
    accepted = [d for d in range(10) if luhn(f"{number}{d}")]
    assert len(accepted) == (1 if number else 0)


def test_luhn_knows_the_example_of_the_standard() -> None:
    assert luhn("49927398716")
    assert not luhn("49927398717")


PIECES = st.sampled_from(
    [
        *FOUND,
        *"@.-:+()/ x0<>_\n",
        "12",
        "2026",
        "call ",
        "<EMAIL_ADDRESS_1>",
        "<URL_22>",
        "office",
        "é",
        "א",
        "😀",
        "\0",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
@examples(max_examples=300)
def test_spans_are_in_order_apart_and_in_the_text(text: str) -> None:
    spans = find(text)
    ends = [0] + [span.end for span in spans]
    assert all(end <= span.start < span.end <= len(text) for end, span in zip(ends, spans, strict=False))
    assert not any(set(range(m.start(), m.end())) & set(range(s.start, s.end))
                   for m in re.finditer(r"<[A-Z_]+_\d+>", text) for s in spans)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=10).map("".join))
@examples(max_examples=300)
def test_what_the_bulk_look_passes_by_holds_nothing(text: str) -> None:
    if find(text):
        assert pc.match_substring_regex(pa.array([text]), SUSPICIOUS).to_pylist() == [True]


HOSTILE = ("1", "@", ".", "-", "1 ", "a@", "a.", "12 34 ", "GB13 ", "+1 (", "http://", ":", "ab:", "1.1.", "<EMAIL_")


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_is_bounded_whatever_a_text_holds(piece: str) -> None:
    """Linear: four times the text takes about four times as long; a quadratic pattern would take sixteen times."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        start = time.process_time()
        find(text)
        return time.process_time() - start

    small, large = seconds(50_000), seconds(200_000)
    assert large < 8 * small + 0.5
    assert large < 6.0


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_takes_seconds(piece: str) -> None:
    start = time.process_time()
    find(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 30.0


def test_there_is_no_other_mode() -> None:
    assert recogniser("off") is None
    assert recogniser("patterns") is find
    with pytest.raises(BadInputError, match="expected one of patterns, full, off, got 'all'"):
        recogniser("all")
