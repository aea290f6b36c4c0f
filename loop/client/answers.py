"""What a client's calls return and raise: frozen results and typed errors. No network and no disk here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class Candidate:
    """One text that a person may take."""

    position: int
    """Place in the order shown, from 0. What `accept` and `modify` are told."""
    text: str = field(repr=False)
    logprob: float | None = None
    """Log-probability under the distribution that was sampled, nats; None where the model does not say."""


@dataclass(frozen=True)
class Suggestion:
    """What the model suggests for one piece of work."""

    suggestion_id: str
    workflow: str
    model_version: str
    arm_propensity: float | None
    """Probability that this version of the model served, from 0 to 1; None where it is not known."""
    order_propensity: float | None
    """Probability of this order given these texts, from 0 to 1; None where it is not known."""
    shown_at: datetime
    """Aware, by the gateway's clock."""
    candidates: tuple[Candidate, ...]
    """In the order to be shown."""


class Status(StrEnum):
    """What became of something that was told."""

    STORED = "stored"
    """The gateway has it, durably."""
    DUPLICATE = "duplicate"
    """The gateway had it already: an earlier try got through."""
    WAITING = "waiting"
    """It is in the outbox, durably, and goes to the gateway when that is back."""


@dataclass(frozen=True)
class Receipt:
    """The acknowledgement of one decision or outcome."""

    key: str
    """The `event_id` or `outcome_id` that the client made before the first try."""
    status: Status
    received_at: datetime | None = None
    """When the gateway first received it; None while it waits, and where another process delivered it."""


@dataclass(frozen=True)
class Refusal:
    """Something in the outbox that the gateway will not take, set aside with the reason."""

    key: str
    kind: str
    """`feedback` or `outcome`."""
    status: int
    """The HTTP status; 0 where the line itself could not be read."""
    reason: str


@dataclass(frozen=True)
class OutboxState:
    """How the outbox stands."""

    waiting: int
    """Items that the gateway does not have yet."""
    refused: int
    """Items set aside."""
    size: int
    """Bytes of both."""
    trouble: str | None
    """Why the last try failed; None after one that did not."""


class GatewayError(Exception):
    """A call that did not do what was asked. The base of what this package raises."""


class UnavailableError(GatewayError):
    """The gateway could not be reached, or said that it cannot answer now."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the gateway asked to wait, if it did."""


class RefusedError(GatewayError):
    """The gateway understood and said no; asking again changes nothing."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, kept: bool = False
    ) -> None:
        waits = "; what was told waits in the outbox until the token is mended: do not tell it again" if kept else ""
        super().__init__(f"the gateway refused with {status}: {message}{waits}")
        self.status = status
        self.reason = message
        self.code = code
        self.param = param
        self.kept = kept
        """Whether the item stays in the outbox: so it does where the token was refused (401), not the item."""


class OutboxError(GatewayError):
    """The outbox cannot be written or read; the call recorded nothing."""


class OutboxFullError(OutboxError):
    """The outbox holds as much as it may; the call recorded nothing."""
