"""What tools send and what they are told: the types of every request and reply, decoding, and the form of an error.

Types and their limits only: the OpenAPI page is made from them. What must hold between fields is in `rules.py`.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from loop.collect.events import LINE_BYTES
from loop.errors import LoopError
from loop.schema import Decision
from loop.validate.contract import ID_CHARS, ITEMS, PROMPT_CHARS, TEXT_CHARS

CANDIDATES: Final = 16
"""Most candidates that one request may ask for."""
ANSWER_TOKENS: Final = 4_096
"""Most tokens that one request may ask a candidate to have."""

Id = Annotated[str, Meta(min_length=1, max_length=ID_CHARS)]
Tags = Annotated[list[Annotated[str, Meta(max_length=ID_CHARS)]], Meta(max_length=ITEMS)]
Purposes = Annotated[list[Literal["training", "evaluation"]], Meta(max_length=ITEMS)]
Text = Annotated[str, Meta(max_length=TEXT_CHARS)]
Time = Annotated[datetime, Meta(tz=True)]
Short = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Long = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Temperature = Annotated[float, Meta(ge=0.0, le=2.0)]
TopP = Annotated[float, Meta(gt=0.0, le=1.0)]
Tokens = Annotated[int, Meta(ge=1, le=ANSWER_TOKENS)]
Count = Annotated[int, Meta(ge=1, le=CANDIDATES)]


# -- asking -----------------------------------------------------------------------------------------------------------


class Message(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Meta(max_length=PROMPT_CHARS)]


class Suggest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Somebody at work wants suggestions."""

    workflow: Id
    messages: Annotated[list[Message], Meta(min_length=1, max_length=ITEMS)]
    n: Count = 2
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: Tokens | None = None
    employee: Id | None = None
    """The person's id in the tool; only a keyed hash of it is kept."""
    team: Id | None = None
    region: Id | None = None
    episode_id: Id | None = None
    turn: Short | None = None
    task_id: Id | None = None
    visibility: Tags = []
    purposes: Purposes | None = None
    """What the person consented to; left out, what the token says."""


class TextPart(msgspec.Struct, kw_only=True):
    """A part of a message's content, of which only texts are known here."""

    type: Literal["text"]
    text: str


class ChatMessage(msgspec.Struct, kw_only=True):
    """A message as OpenAI's clients send it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]


class StreamOptions(msgspec.Struct, kw_only=True):
    include_usage: bool | None = None


class Chat(msgspec.Struct, kw_only=True):
    """A request of OpenAI's chat completions; fields that are not listed are ignored."""

    model: str
    """The workflow."""
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=ITEMS)]
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    user: str | None = None
    """The person's id in the tool."""
    metadata: dict[str, str] | None = None
    """`team`, `region`, `episode_id`, `turn`, `task_id`; `purposes` and `visibility`, commas between their items."""


# -- answering --------------------------------------------------------------------------------------------------------


class Shown(msgspec.Struct, kw_only=True):
    """One candidate as it is to be shown."""

    position: int
    text: str
    logprob: float | None
    """Nats, under the distribution that it was drawn from; null where that is not known."""


class Suggested(msgspec.Struct, kw_only=True):
    """Suggestions, and what off-policy evaluation will need to know of them."""

    suggestion_id: str
    workflow: str
    model_version: str
    arm_propensity: float | None
    order_propensity: float | None
    shown_at: datetime
    candidates: list[Shown]


# -- telling what people did ------------------------------------------------------------------------------------------


class Feedback(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a person did with a suggestion of this gateway; what it does not say is the suggestion's."""

    event_id: Id
    """The tool's key: sent again it is the same event."""
    suggestion_id: Id
    decision: Decision
    chosen: Short | None = None
    """Position of the candidate that was taken; left out, the only one."""
    final_text: Text | None = None
    """What stood in the end; left out for accept, the candidate's own text."""
    employee: Id | None = None
    decided_at: Time | None = None
    """Left out, now."""
    shown_at: Time | None = None
    """Left out, when the suggestion was made."""
    received_at: Time | None = None
    """Left out, now. For a relay that received it earlier; needs the scope admin, for cycles read by this time."""
    reasons: Tags = []
    dwell_ms: Long | None = None
    revises: Id | None = None
    """The earlier event that this one replaces; left out, the last one on the suggestion."""
    purposes: Purposes | None = None
    team: Id | None = None
    region: Id | None = None


class Outcome(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A late result of a suggestion: a click, revenue, an appeal."""

    outcome_id: Id
    """The tool's key: sent again it is the same outcome."""
    suggestion_id: Id
    name: Id
    value: float
    observed_at: Time


class Error(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What went wrong, in the form that OpenAI's clients read."""

    message: str
    type: str
    code: str
    param: str | None
    status: int | None = None
    """For one item of several: the status that it would have had by itself."""


class Failure(msgspec.Struct, kw_only=True):
    error: Error


class Stored(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one item; `event_id` or `outcome_id` as it was sent."""

    status: Literal["stored", "duplicate", "conflict", "rejected"]
    event_id: str | None = None
    outcome_id: str | None = None
    suggestion_id: str | None = None
    received_at: datetime | None = None
    """When it was first received."""
    error: Error | None = None


class Results(msgspec.Struct, kw_only=True):
    """What became of every item, in the order in which they came."""

    results: list[Stored]
    stored: int
    duplicates: int
    conflicts: int
    rejected: int


# -- errors -----------------------------------------------------------------------------------------------------------

_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class Problem(LoopError):  # noqa: N818 - what a request is told, not an error of ours
    """Why a request, or one item of it, is not answered as asked. The message is for the tool's developer."""

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        allow: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.allow = allow
        """The methods of the path, for 405."""

    def error(self, *, of_item: bool = False) -> Error:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        status = self.status if of_item else None
        return Error(message=self.message, type=kind, code=self.code, param=self.param, status=status)


# -- decoding ---------------------------------------------------------------------------------------------------------

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key in )?\$\.?(?P<path>.*)`)?", re.DOTALL)
_FIELD = re.compile(r"field `(.*?)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, status: int = 422) -> T:
    """One value from JSON.

    Args:
        status: of a value that is JSON but not what was asked for.

    Raises:
        Problem: 400 if it is not UTF-8 or not JSON, else `status`; names the field and what was expected.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(str(error), decoder.type, status) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def malformed(error: Exception) -> Problem:
    """The decoder's complaint about a body that is no JSON."""
    if isinstance(error, UnicodeDecodeError):
        return Problem(400, "not_utf8", f"expected UTF-8, got the bytes {error.object[error.start : error.end]!r}")
    if isinstance(error, RecursionError):
        return Problem(400, "not_json", "expected JSON of some dozen levels, got one that is nested too deep")
    return Problem(400, "not_json", f"expected JSON: {error}")


def invalid(message: str, type_: Any, status: int = 422) -> Problem:
    """The decoder's complaint about a value of the wrong type, as a problem that names the field."""
    match = _AT.fullmatch(message)
    assert match is not None
    what, path = match["what"].replace("`", ""), match["path"] or None
    if "unknown field" in what:
        name = _FIELD.findall(message)[0]
        near = difflib.get_close_matches(name, [f.name for f in msgspec.structs.fields(type_)], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return Problem(status, "unknown_field", f"expected no field {short(name)}{hint}", param=name[:60])
    if "missing required field" in what:
        name = _FIELD.findall(message)[0]
        param = f"{path}.{name}" if path else name
        return Problem(status, "missing_field", f"expected a field {param}, got none", param=param)
    code = "naive_time" if "timezone" in what else "wrong_type"
    if "nvalid enum value" in what and path:
        what = f"expected one of {', '.join(_choices(type_, path))}, got {what.partition('value ')[2]}"
    return Problem(status, code, f"{f'{path}: ' if path else ''}{what[0].lower()}{what[1:]}", param=path)


def _choices(type_: Any, path: str) -> list[str]:
    """What may stand at a path such as `messages[0].role`."""
    at: list[Any] = [msgspec.inspect.type_info(type_)]
    for step in re.findall(r"[^.\[\]]+|\[.*?\]", path):
        fields = [field for one in at for field in getattr(one, "fields", ()) if field.encode_name == step]
        at = [field.type for field in fields] if fields else [one.item_type for one in at if hasattr(one, "item_type")]
        at = [inner for one in at for inner in getattr(one, "types", (one,))]
    values = [value for one in at for value in getattr(one, "values", ())]
    enums = [member.value for one in at if isinstance(one, msgspec.inspect.EnumType) for member in one.cls]
    return [str(value) for value in (*values, *enums)]


def short(value: object) -> str:
    """A value as an error may show it: cut, and with nothing unprintable in it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def utc(time: datetime, param: str) -> datetime:
    """The same instant in UTC.

    Raises:
        Problem: there it is before the year 1 or after 9999.
    """
    if time.tzinfo is UTC:
        return time
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise Problem(
            422, "times", f"{param}: expected a time between the years 1 and 9999 in UTC", param=param
        ) from None


def decode_array(body: bytes) -> list[msgspec.Raw]:
    """The items of an array, not decoded yet.

    Raises:
        Problem: 400 if it is not UTF-8 or no JSON array.
    """
    try:
        return _ARRAY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def too_long() -> Problem:
    """An item longer than the longest line of an import."""
    return Problem(413, "too_long", f"expected at most {LINE_BYTES:,} bytes an item, got more")


JSON: Final = msgspec.json.Encoder()
SUGGEST: Final = msgspec.json.Decoder(Suggest)
CHAT: Final = msgspec.json.Decoder(Chat)
FEEDBACK: Final = msgspec.json.Decoder(Feedback)
OUTCOME: Final = msgspec.json.Decoder(Outcome)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
