"""The event as a tool sends it: one JSON object a line, decoded strictly, its employee known only by pseudonym.

The wire type is made from the client's columns of `schema.INTERACTIONS`, so there is one definition. What an event must
satisfy beyond its types is the row contract's business; where events are kept is the landing area's.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import pyarrow as pa

from loop import schema
from loop.config import Settings
from loop.errors import BadInputError

LINE_BYTES: Final = 1_000_000
"""A longer line is set aside as `too_long`, kept whole."""
DELETED: Final = "deleted"
"""Reason tag of a modify whose text was deleted altogether; its final text is empty."""
CLOCK_BACKWARDS: Final = "clock_backwards"
"""Reason tag where the source's clock ran backwards: a decision may then have no time."""
EDITED_LATER: Final = "edited_later"
"""Reason tag of an accept whose text was changed afterwards, into what the source does not say."""
WRITER_UNKNOWN: Final = "writer_unknown"
"""Reason tag where the source does not say who decided: the piece of work stands for the person."""


class Reason(StrEnum):
    """Why a row was set aside. The machine-readable half; the explanation says what came."""

    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    NAIVE_TIME = "naive_time"
    TOO_LONG = "too_long"
    CONFLICT = "conflict"
    ID = "id"
    WORKFLOW = "workflow"
    TIMES = "times"
    FUTURE = "future"
    PROMPT = "prompt"
    CANDIDATES = "candidates"
    DECISION = "decision"
    CHOSEN = "chosen"
    FINAL_TEXT = "final_text"
    PROPENSITY = "propensity"
    LOGPROB = "logprob"
    DWELL = "dwell"
    TURN = "turn"
    PURPOSES = "purposes"
    SESSION = "session"
    """The session that the event belongs to could not be replayed from beginning to end."""


class EventError(BadInputError):
    """A line that is no event: `reason` for machines, the message for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# -- the wire type, made from the schema ----------------------------------------------------------------------------

_TIME = Annotated[datetime, msgspec.Meta(tz=True)]


def _wire(type_: pa.DataType, name: str) -> Any:
    if pa.types.is_list(type_):
        return list[_wire(type_.value_type, name)]  # type: ignore[misc]
    if pa.types.is_struct(type_):
        # Arrow calls every nested field nullable; on the wire only a measure (a log-probability) may be absent.
        fields = [_field(f.name, f.type, optional=pa.types.is_floating(f.type)) for f in type_]
        return msgspec.defstruct(name.title(), fields, forbid_unknown_fields=True, kw_only=True, gc=False)
    if pa.types.is_integer(type_):
        bound = 2 ** (type_.bit_width - 1)
        return Annotated[int, msgspec.Meta(ge=-bound, le=bound - 1)]
    return {pa.string(): str, pa.float64(): float, pa.timestamp("us", tz="UTC"): _TIME}[type_]


def _field(name: str, type_: pa.DataType, *, optional: bool) -> tuple[str, Any] | tuple[str, Any, None]:
    wire = _wire(type_, name)
    return (name, wire | None, None) if optional else (name, wire)


CLIENT: Final = tuple(c for c in schema.INTERACTIONS.columns if c.origin is schema.Origin.CLIENT)
"""The columns that a client sends."""
_TIMES: Final = tuple(c.name for c in CLIENT if pa.types.is_timestamp(c.type))

_Fields: Any = msgspec.defstruct(
    "_Fields",
    [_field(c.name, c.type, optional=c.nullable or c.name == "received_at") for c in CLIENT],
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,  # no event holds itself; looking for such cost a third of decoding
)


class Event(_Fields):  # type: ignore[misc]
    """One decision as a tool sends it: the client's columns of `interactions`, `employee` still the raw id.

    Times are aware and in UTC. `received_at` may be absent: the edge then sets it.
    """


_DECODER = msgspec.json.Decoder(Event)


def decode(line: bytes) -> Event:
    """One event from one line of JSON.

    Raises:
        EventError: the line is not UTF-8, not JSON, or not an event; the message names the field, what was expected
            and, where that reveals nobody, what came.
    """
    try:
        event: Event = _DECODER.decode(line)
        for name in _TIMES:
            if (time := getattr(event, name)) is not None:
                setattr(event, name, time.astimezone(UTC))
    except UnicodeDecodeError as error:
        raise EventError(Reason.NOT_UTF8, f"expected UTF-8, got {error.object[error.start : error.end]!r}") from None
    except msgspec.ValidationError as error:
        raise _invalid(str(error), line) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise EventError(Reason.NOT_JSON, f"expected one JSON object: {error}") from None
    except OverflowError:
        raise EventError(Reason.TIMES, "expected times between the years 1 and 9999 in UTC") from None
    if not event.employee.strip():
        raise EventError(Reason.ID, "field employee: expected the id of a person, got an empty one")
    return event


def encode(event: Event | Mapping[str, Any]) -> bytes:
    """An event as one line of JSON, without the line's end."""
    return msgspec.json.encode(event)


_AT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?")
_FIELD = re.compile(r"field `(.*?)`")


def _invalid(message: str, line: bytes) -> EventError:
    """The decoder's complaint as an error that names the field, the expectation and what came."""
    match = _AT.fullmatch(message)
    assert match is not None
    what, path = match["what"].replace("`", ""), match["path"] or ""
    at = f"field {path}: " if path else ""
    if "unknown field" in what:
        unknown = _FIELD.findall(message)[0]
        near = difflib.get_close_matches(unknown, [c.name for c in CLIENT], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return EventError(Reason.UNKNOWN_FIELD, f"{at}expected no field {_short(unknown)}{hint}")
    if "missing required field" in what:
        return EventError(Reason.MISSING_FIELD, f"{at}expected a field {_FIELD.findall(message)[0]}, got none")
    came = "" if ", got" in what else _came(path, line)
    reason = Reason.NAIVE_TIME if "timezone" in what else Reason.WRONG_TYPE
    return EventError(reason, f"{at}{what[0].lower()}{what[1:]}{came}")


def _came(path: str, line: bytes) -> str:
    """What came in a field of time or number; texts may be personal and are not repeated."""
    if path not in {c.name for c in CLIENT if not pa.types.is_string(c.type) and not pa.types.is_nested(c.type)}:
        return ""
    try:
        return f", got {_short(json.loads(line)[path])}"
    except (ValueError, KeyError, RecursionError):
        return ""


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


# -- who, and what: pseudonym and content digest --------------------------------------------------------------------


def pseudonym(raw: str, key: bytes) -> str:
    """`p_` and 32 hexadecimal digits that stand for an employee: BLAKE2b keyed with the home's secret."""
    return f"p_{hashlib.blake2b(raw.encode('utf-8', 'surrogatepass'), key=key, digest_size=16).hexdigest()}"


def pseudonyms(raw: str, settings: Settings) -> tuple[str, ...]:
    """Every name that an employee may have in this home: one a key of the ring, the current one first."""
    return tuple(pseudonym(raw, key) for key in settings.ring("pseudonym"))


def digest(content: Mapping[str, Any]) -> str:
    """BLAKE2b-128 of an event's content, 32 hexadecimal digits; equal content is a duplicate.

    Over the client's fields that hold a value, by name, `received_at` left out; so a column that is added later leaves
    the digests of older events as they are.
    """
    told = {name: value for name, value in content.items() if value is not None and name != "received_at"}
    return hashlib.blake2b(msgspec.json.encode(told, order="sorted"), digest_size=16).hexdigest()


def sealed(content: str, key: bytes) -> str:
    """The digest of a content under the home's key, as it is stored.

    It is made of what was sent, and what is stored of that is masked: without a key, whoever has the lake could try
    numbers and names until one fits.
    """
    return hashlib.blake2b(content.encode(), key=key, digest_size=16).hexdigest()


def seal(rows: pa.Table, key: bytes) -> pa.Table:
    """Rows of `LANDED` with their contents sealed."""
    contents = pa.array([sealed(content, key) for content in rows["content"].to_pylist()], pa.string())
    return rows.set_column(rows.schema.get_field_index("content"), rows.schema.field("content"), contents)


def digests(event: Event, keys: Sequence[bytes]) -> tuple[str, ...]:
    """The digests that an event with a raw id has under each of some keys: what it was known by before a rotation."""
    row = msgspec.structs.asdict(event)
    return tuple(digest(row | {"employee": pseudonym(event.employee, key)}) for key in keys)


LANDED: Final = schema.INTERACTIONS.arrow
"""Landed events have the columns of `interactions`; their `batch` is empty until a batch is made of them."""


def to_table(events: Sequence[Event], *, key: bytes | None, source: str, now: datetime) -> pa.Table:
    """Events as rows of `LANDED`: pseudonyms for raw ids, `now` where no time of receipt came, day and digest added.

    Without `key` they bear pseudonyms already.
    """
    rows = [msgspec.structs.asdict(event) for event in events]
    for row in rows:
        if key is not None:
            row["employee"] = pseudonym(row["employee"], key)
        row["content"] = digest(row)
        row["received_at"] = row["received_at"] or now
        row["day"] = row["shown_at"].date()
        row["source"] = source
        row["batch"] = ""
    columns = {name: [row[name] for row in rows] for name in LANDED.names}
    for name in ("prompt", "candidates"):
        columns[name] = msgspec.to_builtins(columns[name])
    return pa.table([pa.array(columns[f.name], f.type) for f in LANDED], schema=LANDED)


# -- raw text that is kept: without the raw id ----------------------------------------------------------------------

# A key `employee` and its value: a string, perhaps cut short by the end of the text, or a bare token.
_EMPLOYEE = re.compile(
    r"""(["']employee["']\s*:\s*)("(?:[^"\\]|\\.)*(?:"|\\?\Z)|'[^']*(?:'|\Z)|[^\s,}\]"'\[{]+)""",
    re.IGNORECASE | re.DOTALL,
)

_ESCAPED = re.compile("[\udc80-\udcff]")
"""How Python decodes bytes that are not UTF-8, if asked to."""


def mask(line: bytes, key: bytes | None) -> tuple[str, dict[str, Any]]:
    """A line that is to be kept, without any employee's raw id; and its fields as far as it is a JSON object.

    Undecodable bytes are escaped as `\\\\xff`, so that what is JSON but for them still is. Where the line is JSON,
    every value of a key `employee`, however deep it stands or however its key is spelled, is replaced by its pseudonym.
    Where it is not, there is only a pattern to go by: what follows `"employee":` is replaced, and an id that stands
    anywhere else in the garbage is not recognised. The text is kept all the same, for without it nobody could mend what
    broke; whoever reads it must know that. Without `key` the line bears pseudonyms already and stays as it is.
    """
    made: set[str] = set()

    def put(match: re.Match[str]) -> str:
        assert key is not None
        made.add(hidden := pseudonym(_literal(match[2]), key))
        quote = "'" if match[2].startswith("'") else '"'
        return f"{match[1]}{quote}{hidden}{quote}"

    text = _ESCAPED.sub(lambda m: rf"\\x{ord(m[0]) - 0xDC00:02x}", line.decode("utf-8", "surrogateescape"))
    masked = text if key is None else _EMPLOYEE.sub(put, text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return masked, {}
    if key is None:
        return masked, value if isinstance(value, dict) else {}
    hidden = _hide(value, key)
    if not _is_masked(masked, made):
        masked = json.dumps(hidden)
    return masked, hidden if isinstance(hidden, dict) else {}


def _hide(value: Any, key: bytes) -> Any:
    if isinstance(value, dict):
        return {
            name: pseudonym(inner if isinstance(inner, str) else json.dumps(inner), key)
            if name.casefold() == "employee"
            else _hide(inner, key)
            for name, inner in value.items()
        }
    return [_hide(inner, key) for inner in value] if isinstance(value, list) else value


def _is_masked(text: str, pseudonyms: set[str]) -> bool:
    """Whether the text is JSON whose every key `employee`, repeated ones included, holds one of the pseudonyms."""
    found: list[Any] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found.extend(value for name, value in pairs if name.casefold() == "employee")
        return dict(pairs)

    try:
        json.loads(text, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(value, str) and value in pseudonyms for value in found)


def _literal(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token.strip("\"'")
