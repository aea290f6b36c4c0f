from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop import schema
from loop.collect import events
from loop.collect.events import EventError, Reason, decode, digest, encode, mask, pseudonym, to_table
from loop.config import Settings
from loop.schema import Origin

KEY = b"k" * 32
NOW = datetime(2026, 1, 6, tzinfo=UTC)
RAW = "alice@example.org"
Line = Callable[..., bytes]


def test_the_wire_type_has_the_columns_that_the_schema_says_a_client_sends() -> None:
    sent = [c.name for c in schema.INTERACTIONS.columns if c.origin is Origin.CLIENT]
    assert list(events.Event.__struct_fields__) == sent


def test_an_event_decodes_to_what_was_sent(line: Line) -> None:
    event = decode(line())
    assert (event.event_id, event.employee, event.chosen, event.final_text) == ("e1", RAW, 1, "two")
    assert [(c.position, c.text, c.logprob) for c in event.candidates] == [(0, "one", -1.5), (1, "two", None)]
    assert decode(encode(event)) == event


def test_times_of_any_zone_become_utc(line: Line) -> None:
    event = decode(line(shown_at="2026-01-05T00:30:00+02:00"))
    assert event.shown_at == datetime(2026, 1, 4, 22, 30, tzinfo=UTC)
    assert event.shown_at.tzinfo is UTC
    rows = to_table([event], key=KEY, source="jsonl", now=NOW)
    assert rows["day"].to_pylist() == [date(2026, 1, 4)]


def test_only_what_may_be_null_may_be_absent(line: Line) -> None:
    optional = {c.name for c in events.CLIENT if c.nullable} | {"received_at"}
    for column in events.CLIENT:
        if column.name in optional:
            decode(line(**{column.name: ...}))
        else:
            with pytest.raises(EventError, match=rf"expected a field {column.name}, got none"):
                decode(line(**{column.name: ...}))


@pytest.mark.parametrize(
    ("given", "reason", "message"),
    [
        (b"\xff{}", Reason.NOT_JSON, "expected one JSON object: JSON is malformed: invalid character (byte 0)"),
        (b"", Reason.NOT_JSON, "expected one JSON object: Input data was truncated"),
        (b"[1]", Reason.WRONG_TYPE, "expected object, got array"),
        (b"[" * 100_000, Reason.WRONG_TYPE, "expected object, got array"),
        (b'{"prompt":' * 100_000, Reason.WRONG_TYPE, "field prompt: expected array, got object"),
        (b'{"turn": 1e999}', Reason.WRONG_TYPE, "field turn: number out of range, got inf"),
    ],
)
def test_garbage_is_refused_with_what_was_expected(given: bytes, reason: Reason, message: str) -> None:
    with pytest.raises(EventError) as caught:
        decode(given)
    assert caught.value.reason is reason
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"colour": 1}, Reason.UNKNOWN_FIELD, "expected no field 'colour'"),
        ({"purpose": []}, Reason.UNKNOWN_FIELD, "expected no field 'purpose'; did you mean purposes?"),
        (
            {"candidates": [{"position": 0, "text": "a", "score": 1}]},
            Reason.UNKNOWN_FIELD,
            "field candidates[0]: expected no field 'score'",
        ),
        (
            {"candidates": [{"text": "a"}]},
            Reason.MISSING_FIELD,
            "field candidates[0]: expected a field position, got none",
        ),
        ({"turn": "3"}, Reason.WRONG_TYPE, "field turn: expected int | null, got str"),
        ({"turn": 2**31}, Reason.WRONG_TYPE, "field turn: expected int <= 2147483647, got 2147483648"),
        ({"dwell_ms": 10**40}, Reason.WRONG_TYPE, f"field dwell_ms: expected int <= {2**63 - 1}, got {10**40}"),
        ({"employee": 7}, Reason.WRONG_TYPE, "field employee: expected str, got int"),
        ({"employee": " "}, Reason.ID, "field employee: expected the id of a person, got an empty one"),
        ({"final_text": None, "prompt": None}, Reason.WRONG_TYPE, "field prompt: expected array, got null"),
        (
            {"shown_at": "2026-01-05T08:00:00"},
            Reason.NAIVE_TIME,
            "field shown_at: expected datetime with a timezone component, got '2026-01-05T08:00:00'",
        ),
        ({"shown_at": 1767600000}, Reason.WRONG_TYPE, "field shown_at: expected datetime, got int"),
        (
            {"decided_at": "yesterday"},
            Reason.WRONG_TYPE,
            "field decided_at: invalid RFC3339 encoded datetime, got 'yesterday'",
        ),
        (
            {"shown_at": "0001-01-01T00:00:00+10:00"},
            Reason.TIMES,
            "expected times between the years 1 and 9999 in UTC",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected_and_what_came(
    line: Line, changes: dict[str, Any], reason: Reason, message: str
) -> None:
    with pytest.raises(EventError) as caught:
        decode(line(**changes))
    assert caught.value.reason is reason
    assert str(caught.value) == message


def test_a_bad_byte_is_shown_as_it_came(line: Line) -> None:
    with pytest.raises(EventError) as caught:
        decode(line().replace(b"brief", b"br\xffef"))
    assert caught.value.reason is Reason.NOT_UTF8
    assert str(caught.value) == r"expected UTF-8, got b'\xff'"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_an_event_error(given: bytes) -> None:
    with pytest.raises(EventError):
        decode(given)


@given(st.data())
def test_no_change_of_one_field_raises_anything_but_an_event_error(line: Line, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([c.name for c in events.CLIENT]))
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )
    value = data.draw(anything)
    changed = json.dumps({**json.loads(line()), name: value}).encode()
    said: EventError | None = None
    try:
        rows = to_table([decode(changed)], key=KEY, source="jsonl", now=NOW)
    except EventError as error:
        said = error
    # The field is named, unless JSON itself or the person's id was at fault.
    assert rows.num_rows == 1 if said is None else name in str(said) or said.reason in {Reason.NOT_JSON, Reason.ID}


# -- pseudonym and digest ---------------------------------------------------------------------------------------------


def test_a_pseudonym_depends_on_the_person_and_on_the_home() -> None:
    assert pseudonym(RAW, KEY) == "p_7a716af27a513bf23fe9e6a6eefbceb7"
    assert len({pseudonym(RAW, KEY), pseudonym(RAW, b"other"), pseudonym("bob", KEY)}) == 3


def test_rows_carry_the_pseudonym_and_nothing_of_the_raw_id(line: Line) -> None:
    rows = to_table([decode(line())], key=KEY, source="jsonl", now=NOW)
    assert rows.schema.equals(schema.INTERACTIONS.arrow)
    row = rows.to_pylist()[0]
    assert row["employee"] == pseudonym(RAW, KEY)
    assert (row["source"], row["batch"], row["day"]) == ("jsonl", "", date(2026, 1, 5))
    assert RAW not in str(row)


def test_the_time_of_receipt_is_now_where_none_came(line: Line) -> None:
    rows = to_table([decode(line(received_at=...)), decode(line())], key=KEY, source="jsonl", now=NOW)
    assert rows["received_at"].to_pylist() == [NOW, datetime(2026, 1, 5, 8, 0, 6, tzinfo=UTC)]


def content(line: bytes) -> str:
    return str(to_table([decode(line)], key=KEY, source="jsonl", now=NOW)["content"].to_pylist()[0])


def test_equal_content_has_one_digest_however_it_is_spelled(line: Line) -> None:
    spelled = json.dumps(dict(reversed(json.loads(line()).items())), indent=1).encode()
    assert content(spelled) == content(line())
    assert content(line(shown_at="2026-01-05T10:00:00+02:00")) == content(line())
    assert content(line(received_at="2026-01-05T20:00:00Z")) == content(line(received_at=...)) == content(line())
    assert content(line(region=...)) == content(line())


def test_every_other_field_is_content(line: Line) -> None:
    other: dict[str, Any] = {
        "turn": 1, "dwell_ms": 1, "chosen": 0, "arm_propensity": 0.1, "order_propensity": 0.1,
        "shown_at": "2026-01-05T07:00:00Z", "decided_at": "2026-01-05T09:00:00Z",
        "visibility": ["x"], "reasons": ["x"], "purposes": [], "prompt": [{"role": "user", "content": "x"}],
        "candidates": [],
    }  # fmt: skip
    changed = {c.name: other.get(c.name, "other") for c in events.CLIENT if c.name != "received_at"}
    digests = {content(line(**{name: value})) for name, value in changed.items()}
    assert len(digests | {content(line())}) == len(changed) + 1


def test_a_column_that_is_added_later_leaves_older_digests_as_they_are() -> None:
    assert digest({"a": 1, "b": "x"}) == digest({"a": 1, "b": "x", "new": None})


# -- masking ----------------------------------------------------------------------------------------------------------


def test_the_raw_id_is_replaced_in_text_that_is_kept(line: Line) -> None:
    text, fields = mask(line(colour=1), KEY)
    assert text == line(colour=1).decode().replace(RAW, pseudonym(RAW, KEY))
    assert fields["employee"] == pseudonym(RAW, KEY)
    assert fields["colour"] == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"employee" : "SECRET", "employee": "SECRET"}',
        '{"\\u0065mployee": "SECRET"}',
        '{"\\u0065mployee": "SECRET", "employee": "bob"}',
        '{"Employee": "SECRET"}',
        '{"a": [{"employee": "SECRET"}]}',
        '{"employee": {"id": "SECRET"}}',
        '{"employee": ["SECRET"]}',
        '{"employee": "SEC\\u0052ET"}',
        '[{"employee": "SECRET"}]',
        "{'employee': 'SECRET'}",
        '{"employee": SECRET}',
        '{"employee": "SECRET',
        '{"employee": "SECRET\\',
        '{"employee":\n"SECRET", "x": }',
        """{"note": "'employee': 'SECRET'", "employee": "bob"}""",
    ],
)
def test_the_raw_id_is_found_however_the_field_is_written(text: str) -> None:
    masked, _ = mask(text.encode(), KEY)
    assert "SECRET" not in masked.replace("\\u0052", "R")
    if text.startswith('{"employee": "SEC\\'):
        assert pseudonym("SECRET", KEY) in masked


def test_what_is_json_stays_json_when_masked() -> None:
    for text in ('{"employee": 7, "x": 1}', """{"note": "'employee': 5", "employee": "bob"}"""):
        masked, fields = mask(text.encode(), KEY)
        assert json.loads(masked) == fields


@given(st.integers(0, 2000))
def test_a_line_cut_anywhere_keeps_no_raw_id(line: Line, cut: int) -> None:
    masked, _ = mask(line(employee="SECRETSECRETSECRET")[:cut], KEY)
    assert "SECRET" not in masked


def test_undecodable_bytes_are_escaped_and_the_id_beside_them_is_masked() -> None:
    hidden = pseudonym("alice", KEY)
    masked, fields = mask(b'{"employee": "alice", "x": "\xff\xc3\xa9"}', KEY)
    assert masked == rf'{{"employee": "{hidden}", "x": "\\xffé"}}'
    assert fields == {"employee": hidden, "x": r"\xffé"}
    masked, fields = mask(b'{"employee": "alice", \xff', KEY)
    assert masked == rf'{{"employee": "{hidden}", \\xff'
    assert fields == {}


# -- a key that is rotated --------------------------------------------------------------------------------------------


def test_a_person_has_a_name_under_every_key_of_the_ring(bare_settings: Settings) -> None:
    first = events.pseudonyms(RAW, bare_settings)
    assert first == (pseudonym(RAW, bare_settings.secret("pseudonym")),)
    bare_settings.rotate("pseudonym")
    second = events.pseudonyms(RAW, bare_settings)
    assert second == (pseudonym(RAW, bare_settings.secret("pseudonym")), *first)
    assert len(set(second)) == 2


def test_the_digests_of_an_event_are_those_that_it_landed_with(line: Line) -> None:
    keys = (KEY, b"l" * 32)
    landed = [to_table([decode(line())], key=key, source="jsonl", now=NOW)["content"].to_pylist()[0] for key in keys]
    assert list(events.digests(decode(line()), keys)) == landed
    assert len(set(landed)) == 2
