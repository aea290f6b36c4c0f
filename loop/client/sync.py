"""The client for plain code; several threads may share one."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import httpx

from loop.client import wire
from loop.client.answers import GatewayError, OutboxState, Receipt, Status, Suggestion
from loop.client.courier import Courier
from loop.client.outbox import Outbox
from loop.client.trying import call


class Loop:
    """Asks the gateway for suggestions and tells it what people did.

    With an `outbox` (a folder) a decision or outcome is on the disk before the first try: while the gateway is away the
    call returns a receipt that says `waiting`, and a thread delivers later, also after this process was killed and
    started again. Without one, UnavailableError is raised, and telling it again with the same `event_id` or
    `outcome_id` is safe. A suggestion has no such key, and is not asked for again when its answer takes too long.

    Every call raises RefusedError where the gateway says no, and ValueError for what cannot be sent.

    Args:
        url: the gateway's address, such as http://127.0.0.1:8400.
        token: as `loop token create` showed it.
        outbox: a folder for this gateway and token, which other processes of the same user may share; or an `Outbox`
            with a bound of its own.
        timeout: seconds for one exchange, and at most for a decision to be acknowledged before it is left waiting.
        pace: when to try again.

    Proxies and a company's own certificates are taken from the environment, as httpx does (SSL_CERT_FILE).
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        outbox: Outbox | Path | str | None = None,
        timeout: float = 10.0,
        pace: wire.Pace | None = None,
    ) -> None:
        self._client = http(url, token, timeout)
        self._pace = pace or wire.Pace()
        self._timeout = timeout
        self.outbox = opened(outbox)
        """What waits and what is set aside; None without one."""
        self._courier = Courier(self.outbox, self._post, self._pace) if self.outbox else None

    def suggest(self, workflow: str, messages: wire.Messages, **asked: Unpack[wire.Asked]) -> Suggestion:
        """Candidates for one piece of work. Raises UnavailableError where the gateway is away."""
        body = wire.suggestion_body(workflow, messages, asked)
        return wire.read_suggestion(call(lambda: self._post("/v1/suggestions", body), self._pace, is_keyed=False))

    def accept(self, suggestion: Suggestion | str, chosen: int | None = None, **told: Unpack[wire.Told]) -> Receipt:
        """The person took the candidate at position `chosen`, which may be left out where there is only one."""
        return self.feedback(suggestion, "accept", chosen=chosen, **told)

    def modify(
        self, suggestion: Suggestion | str, final_text: str, chosen: int | None = None, **told: Unpack[wire.Told]
    ) -> Receipt:
        """The person took the candidate at `chosen` and made `final_text` of it; an empty text is a deletion."""
        return self.feedback(suggestion, "modify", chosen=chosen, final_text=final_text, **told)

    def reject(self, suggestion: Suggestion | str, **told: Unpack[wire.Told]) -> Receipt:
        """The person wanted none of the candidates."""
        return self.feedback(suggestion, "reject", **told)

    def ignore(self, suggestion: Suggestion | str, **told: Unpack[wire.Told]) -> Receipt:
        """The person was shown the candidates and did not decide."""
        return self.feedback(suggestion, "ignore", **told)

    def feedback(
        self,
        suggestion: Suggestion | str,
        decision: wire.Decision,
        *,
        chosen: int | None = None,
        final_text: str | None = None,
        **told: Unpack[wire.Told],
    ) -> Receipt:
        """Any decision on a suggestion, given itself or by its id. Raises OutboxError where nothing was recorded."""
        return self._record(wire.feedback(suggestion, decision, chosen, final_text, told))

    def outcome(
        self,
        suggestion: Suggestion | str,
        name: str,
        value: float,
        *,
        observed_at: datetime | None = None,
        outcome_id: str | None = None,
    ) -> Receipt:
        """What came of a suggestion later, such as a click or an overturned appeal. Raises as `feedback`."""
        return self._record(wire.outcome(suggestion, name, value, observed_at, outcome_id))

    def flush(self, timeout: float | None = None) -> OutboxState:
        """Try to deliver what waits now, for at most `timeout` seconds (the client's if None); how it stands then."""
        return needed(self._courier).flush(self._timeout if timeout is None else timeout)

    def state(self) -> OutboxState:
        """How the outbox stands."""
        return needed(self._courier).state()

    def close(self) -> None:
        """Stop delivering; what waits stays on the disk for the next client of this outbox."""
        if self._courier:
            self._courier.close(self._timeout)
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, route: str, body: bytes) -> httpx.Response:
        return self._client.post(route, content=body)

    def _record(self, item: wire.Item) -> Receipt:
        if self._courier is None:
            return wire.read_receipt(item, call(lambda: self._post(wire.ROUTES[item.kind], item.body), self._pace))
        future = self._courier.submit(item)
        try:
            return future.result(self._timeout)
        except TimeoutError:
            return Receipt(item.key, Status.WAITING) if future.cancel() else future.result()


def http(url: str, token: str, timeout: float) -> httpx.Client:
    """A connection pool that says who asks; it follows no redirection, which could carry the token elsewhere."""
    return httpx.Client(base_url=wire.base_url(url), headers=wire.headers(token), timeout=timeout)


def opened(outbox: Outbox | Path | str | None) -> Outbox | None:
    """The outbox that a client was given or pointed to."""
    return Outbox(outbox) if isinstance(outbox, (str, Path)) else outbox


def needed(courier: Courier | None) -> Courier:
    """The courier of a client that has an outbox."""
    if courier is None:
        raise GatewayError("expected a client with an outbox; make it with outbox=FOLDER")
    return courier
