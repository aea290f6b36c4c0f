"""What goes over the wire: bodies made from arguments, answers read strictly, and when to try again.

Pure but for the clock, the random numbers and the keys. An answer counts as the gateway's only if it has the gateway's
form: the login page of a hotel's network acknowledges nothing, and refuses nothing.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypedDict

import httpx

from loop.client.answers import (
    Candidate,
    GatewayError,
    Receipt,
    RefusedError,
    Status,
    Suggestion,
    UnavailableError,
)

Decision = Literal["accept", "modify", "reject", "ignore"]
Messages = str | Sequence[Mapping[str, str]]
"""A prompt: one text of the user's, or messages in OpenAI's form, `{"role": "user", "content": "..."}`."""

ROUTES: Final = {"feedback": "/v1/feedback", "outcome": "/v1/outcomes"}
KEYS: Final = {"feedback": "event_id", "outcome": "outcome_id"}
DELETED: Final = "deleted"
"""Reason tag of a modify whose text was deleted altogether; the row contract asks for it."""


class Asked(TypedDict, total=False):
    """What may be said with a request for suggestions."""

    n: int
    temperature: float
    top_p: float
    max_tokens: int
    employee: str
    """The person's id in the tool; the gateway keeps only its keyed hash."""
    team: str
    region: str
    episode_id: str
    turn: int
    task_id: str
    visibility: list[str]
    purposes: list[str]


class Told(TypedDict, total=False):
    """What may be said with a decision. What is left out is taken from the suggestion."""

    event_id: str
    """The client key; made here if it is not given."""
    employee: str
    team: str
    region: str
    reasons: Sequence[str]
    dwell_ms: int
    revises: str
    """The earlier decision that this one replaces; the gateway knows the last one on the suggestion itself."""
    purposes: Sequence[str]
    decided_at: datetime
    shown_at: datetime
    received_at: datetime
    """For a relay that received it earlier; its token needs the scope admin."""


@dataclass(frozen=True)
class Item:
    """One decision or outcome on its way. The same bytes are sent at every try, so that a second one is a duplicate."""

    kind: str
    """`feedback` or `outcome`."""
    key: str
    body: bytes
    """One JSON object in UTF-8."""


@dataclass(frozen=True)
class Pace:
    """When to try again: after a random time between 0 and `base` x 2^tries seconds (full jitter), at most `cap`.

    Full jitter spreads clients that lost the gateway together: Brooker, Exponential Backoff and Jitter, 2015.
    """

    tries: int = 4
    base: float = 0.2
    cap: float = 5.0
    """Seconds; a gateway that asks for a longer wait is not waited for inside a call."""

    def delay(self, failed: int, error: UnavailableError) -> float | None:
        """Seconds until the next try after `failed` failures; None to give up."""
        asked = error.retry_after or 0.0
        if failed >= self.tries or asked > self.cap:
            return None
        return asked + self.jitter(failed)

    def jitter(self, failed: int) -> float:
        """Seconds, at random; more failures, longer."""
        return random.uniform(0.0, min(self.cap, self.base * 2.0 ** min(failed - 1, 30)))  # noqa: S311 - no secret


# -- bodies ---------------------------------------------------------------------------------------------------------


def base_url(url: str) -> str:
    """The gateway's address without a path of the API: `http://host:1/v1/` is taken for `http://host:1`."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"expected the gateway's address such as http://127.0.0.1:8400, got {url!r}")
    return str(parsed).rstrip("/").removesuffix("/v1")


def headers(token: str) -> dict[str, str]:
    """What every request says."""
    return {"authorization": f"Bearer {token}", "content-type": "application/json", "accept": "application/json"}


def suggestion_body(workflow: str, messages: Messages, asked: Asked) -> bytes:
    """The body of POST /v1/suggestions."""
    prompt = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(m) for m in messages]
    return _encode({"workflow": workflow, "messages": prompt, **asked})


def feedback(
    suggestion: Suggestion | str, decision: Decision, chosen: int | None, final_text: str | None, told: Told
) -> Item:
    """A decision as an item, its key and its time fixed now, before the first try.

    Raises:
        ValueError: the suggestion is at hand and the decision cannot be about it.
    """
    known = suggestion if isinstance(suggestion, Suggestion) else None
    chosen = _checked(known, decision, chosen, final_text)
    fields: dict[str, Any] = {**told}
    if decision == "modify" and final_text == "":
        fields["reasons"] = [*dict.fromkeys([*fields.get("reasons", ()), DELETED])]
    if decision != "ignore" and "decided_at" not in fields:
        # The suggestion's time is by the gateway's clock; ours may be slow, and nobody decides before being shown.
        now = datetime.now(UTC)
        fields["decided_at"] = max(now, known.shown_at) if known else now
    key = fields.pop("event_id", None) or str(uuid.uuid4())
    body = {
        "event_id": key,
        "suggestion_id": known.suggestion_id if known else suggestion,
        "decision": decision,
        "chosen": chosen,
        "final_text": final_text,
        **fields,
    }
    return Item("feedback", key, _encode({name: value for name, value in body.items() if value is not None}))


def _checked(known: Suggestion | None, decision: str, chosen: int | None, final_text: str | None) -> int | None:
    """The position that was taken, as far as it is known here."""
    if decision in ("reject", "ignore"):
        if chosen is not None or final_text is not None:
            raise ValueError(f"expected neither chosen nor final_text with {decision}, got one")
        return None
    if decision == "modify" and final_text is None:
        raise ValueError("expected final_text, what the person made of it, with modify")
    if known is None:
        return chosen
    if chosen is None and len(known.candidates) == 1:
        chosen = 0
    texts = {c.position: c.text for c in known.candidates}
    if chosen not in texts:
        raise ValueError(f"expected chosen among the positions {sorted(texts)}, got {chosen}")
    if decision == "modify" and final_text == texts[chosen]:
        raise ValueError("expected another text than the candidate's with modify; the same text is an accept")
    return chosen


def outcome(
    suggestion: Suggestion | str,
    name: str,
    value: float,
    observed_at: datetime | None,
    outcome_id: str | None,
) -> Item:
    """A late business result as an item, its key fixed now."""
    key = outcome_id or str(uuid.uuid4())
    body = {
        "outcome_id": key,
        "suggestion_id": suggestion.suggestion_id if isinstance(suggestion, Suggestion) else suggestion,
        "name": name,
        "value": value,
        "observed_at": observed_at or datetime.now(UTC),
    }
    return Item("outcome", key, _encode(body))


def _encode(body: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8. Raises ValueError for what cannot be sent: a naive time, NaN, half a surrogate pair."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, default=_time, separators=(",", ":")).encode()


def _time(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"expected texts, numbers, lists and times, got {type(value).__name__}")
    if value.tzinfo is None:
        raise ValueError("expected an aware time, such as datetime.now(UTC), got a naive one")
    return value.astimezone(UTC).isoformat()


# -- answers --------------------------------------------------------------------------------------------------------


def failure(response: httpx.Response) -> GatewayError:
    """What an answer other than 200 and 207 means: refused for good, or unavailable for now.

    408, 425 and 429 say later. A 4xx that does not have the gateway's form comes from something before the gateway and
    is no verdict on what was sent; but 413 is, for a proxy's limit stands as firmly.
    """
    status, error = response.status_code, _mapping(_mapping(_json(response)).get("error"))
    message = str(error.get("message") or "") or f"without the gateway's form, as {_media(response)}"
    if 400 <= status < 500 and status not in (408, 425, 429) and (error or status == 413):
        code, param = error.get("code"), error.get("param")
        return RefusedError(status, message, code=_text(code), param=_text(param))
    return UnavailableError(f"the gateway answered {status}: {message}", _retry_after(response))


def unreachable(error: httpx.RequestError) -> UnavailableError:
    """A request that got no whole answer."""
    return UnavailableError(f"no answer from the gateway ({type(error).__name__}); is it running at the given address?")


def read_suggestion(response: httpx.Response) -> Suggestion:
    """The answer of POST /v1/suggestions. Raises what `failure` says, or UnavailableError for another form."""
    if response.status_code != 200:
        raise failure(response)
    try:
        told = json.loads(response.content)
        return Suggestion(
            suggestion_id=str(told["suggestion_id"]),
            workflow=str(told["workflow"]),
            model_version=str(told["model_version"]),
            arm_propensity=_number(told["arm_propensity"]),
            order_propensity=_number(told["order_propensity"]),
            shown_at=_aware(told["shown_at"]),
            candidates=tuple(
                Candidate(int(c["position"]), str(c["text"]), _number(c.get("logprob"))) for c in told["candidates"]
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _foreign(response) from error


def read_receipt(item: Item, response: httpx.Response) -> Receipt:
    """The answer to one item sent alone. Raises what `failure` says, or UnavailableError for another form."""
    if response.status_code != 200:
        raise failure(response)
    if (receipt := _receipt(item, _json(response))) is None:
        raise _foreign(response)
    return receipt


def read_receipts(items: Sequence[Item], response: httpx.Response) -> list[Receipt | None]:
    """The answer to items of one kind sent as an array; None for each that is to be asked about alone.

    Raises:
        RefusedError: the token is not known (401).
        UnavailableError: the gateway is away.
    """
    if response.status_code in (200, 207):
        results = _mapping(_json(response)).get("results")
        if not isinstance(results, list) or len(results) != len(items):
            raise _foreign(response)
        return [_receipt(item, result) for item, result in zip(items, results, strict=True)]
    error = failure(response)
    if isinstance(error, RefusedError) and error.status != 401:
        return [None] * len(items)
    raise error


def _receipt(item: Item, told: object) -> Receipt | None:
    fields = _mapping(told)
    if fields.get(KEYS[item.kind]) != item.key or fields.get("status") not in (Status.STORED, Status.DUPLICATE):
        return None
    try:
        return Receipt(item.key, Status(fields["status"]), _aware(fields["received_at"]))
    except (ValueError, KeyError, TypeError):
        return None


def _foreign(response: httpx.Response) -> UnavailableError:
    return UnavailableError(
        f"expected the gateway's answer, got {response.status_code} as {_media(response)} in another form; "
        "is something between this tool and the gateway?"
    )


def _media(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "nothing"))[:60]


def _json(response: httpx.Response) -> object:
    try:
        value: object = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return value


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _aware(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("expected an aware time")
    return time


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds asked for, at most an hour: as a number, or as a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("retry-after", "")
    try:
        seconds = float(text) if text.replace(".", "", 1).isdigit() else _until(text)
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), 3600.0)


def _until(text: str) -> float:
    return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
