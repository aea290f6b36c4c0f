"""Erasure in the gateway's stores: what the spool and the ledger hold of somebody, and how it goes.

Only one process may write to the ledger. Where a front runs, it does so for `loop erase`, which leaves a request in
the folder `gateway/erasing` and waits for the answer beside it: whoever may write there may erase, so it needs neither
token nor TLS, and a request outlives a kill of either. Sealed segments are rewritten by `loop erase` itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import rocksdict

from loop.collect import spool
from loop.collect.intake import Intake
from loop.collect.ledger import Ledger, hashed
from loop.config import Settings
from loop.errors import LoopError

ASIDE: Final = ("*.bad", "*.torn", "*.tmp")
"""Files of the spool of which not all could be read."""
_ATTEMPTS: Final = 5


class Named(msgspec.Struct):
    """Whom and what an erasure is about. Not of a moment: it grows as more of it is found."""

    employees: set[str] = set()
    """Pseudonyms, under every key there ever was."""
    events: set[str] = set()
    suggestions: set[str] = set()
    """Suggestions that were made to the person, or decided on by nobody else."""
    whole: set[str] = set()
    """Suggestions of which every decision goes, whoever took it."""
    outcomes: set[str] = set()
    before: int = 1 << 62
    """Microseconds since 1970: what a person sent later is not meant."""


class Erased(msgspec.Struct):
    """What was removed."""

    keys: int = 0
    """Client keys that the ledger knew; of each it now knows only that it was used."""
    suggestions: int = 0
    frames: int = 0
    files: int = 0
    """Files of the spool, unreadable to some part, that were removed."""


class _Event(msgspec.Struct):
    event_id: str
    suggestion_id: str
    employee: str


class _Outcome(msgspec.Struct):
    outcome_id: str
    suggestion_id: str


class _Suggestion(msgspec.Struct):
    suggestion_id: str
    employee: str | None = None


class _Frame(msgspec.Struct):
    at: int
    event: _Event | None = None
    outcome: _Outcome | None = None
    suggestion: _Suggestion | None = None


_decode_frame: Final = msgspec.json.Decoder(_Frame).decode
_decode_suggestion: Final = msgspec.json.Decoder(_Suggestion).decode


# -- what there is ----------------------------------------------------------------------------------------------------


def look(settings: Settings, named: Named) -> Erased:
    """Count what spool and ledger hold of it, and add to `named` what is found; nothing is changed."""
    found = Erased()
    if settings.ledger.exists():
        found.suggestions = _look(settings.ledger, named)
    for path in _segments(settings):
        for frame in _readable(path):
            found.frames += _concerns(_decode_frame(frame), named, add=True)
    return found


def _look(ledger: Path, named: Named) -> int:
    """What `_add` says of a ledger that somebody else may have open and be rewriting."""
    for attempt in range(_ATTEMPTS):
        try:
            held = rocksdict.Rdict(
                str(ledger),
                rocksdict.Options(raw_mode=True),
                {"suggestions": rocksdict.Options(raw_mode=True)},
                access_type=rocksdict.AccessType.read_only(),
            )
            try:
                values = held.get_column_family("suggestions").items(from_key=b"r")
                return _add(named, (bytes(v) for k, v in values if bytes(k).startswith(b"r")))  # type: ignore[arg-type]
            finally:
                held.close()
        except Exception as error:  # the binding raises bare Exception
            if attempt == _ATTEMPTS - 1:
                raise LoopError(f"{ledger}: expected to read the ledger, got {error}; erase again") from error
            time.sleep(0.2)  # a file was replaced under it
    raise AssertionError("unreachable")


def _add(named: Named, records: Iterable[bytes]) -> int:
    count = 0
    for record in records:
        one = _decode_suggestion(record)
        if one.employee in named.employees and one.suggestion_id < f"s-{named.before // 1000:012x}":
            named.suggestions.add(one.suggestion_id)
        count += one.suggestion_id in named.suggestions
    return count


def _concerns(frame: _Frame, named: Named, *, add: bool = False) -> bool:
    """Whether a frame of the spool is to go; with `add` its ids are noted."""
    theirs: set[str] = named.employees if frame.at < named.before else set()
    match frame:
        case _Frame(event=_Event() as event):
            hit = event.employee in theirs or event.event_id in named.events or event.suggestion_id in named.whole
            if hit and add:
                named.events.add(event.event_id)
        case _Frame(suggestion=_Suggestion() as made):
            hit = made.employee in theirs or made.suggestion_id in named.suggestions
            if hit and add:
                named.suggestions.add(made.suggestion_id)
        case _Frame(outcome=_Outcome() as outcome):
            hit = outcome.suggestion_id in named.suggestions or outcome.outcome_id in named.outcomes
            if hit and add:
                named.outcomes.add(outcome.outcome_id)
        case _:
            hit = False
    return hit


def _segments(settings: Settings) -> list[Path]:
    return [path for suffix in ("*.seg", "*.open", *ASIDE) for path in sorted(settings.spool.glob(suffix))]


def _readable(path: Path) -> Iterator[bytes]:
    """The good frames of a segment, also of one that is being written to or has a fault."""
    try:
        yield from spool.frames(path)
    except (LoopError, FileNotFoundError):
        return


# -- the ledger -------------------------------------------------------------------------------------------------------


async def forget(intake: Intake, named: Named) -> Erased:
    """Have the committer forget it, and the files written anew; `named` gets what was found on the way."""
    found = await intake.apart(lambda ledger: _add(named, ledger.records()))
    keys = [
        hashed(kind, key)
        for kind, ids in (("event", named.events), ("suggestion", named.suggestions), ("outcome", named.outcomes))
        for key in sorted(ids)
    ]

    def erase(ledger: Ledger) -> int:
        return ledger.erase(keys, named.suggestions, _last(ledger, named.events))

    known = await intake.sealed(erase)
    await intake.apart(Ledger.compact)
    return Erased(keys=known, suggestions=found)


def _last(ledger: Ledger, events: set[str]) -> list[tuple[str, str]]:
    return [(suggestion, event) for suggestion, event in ledger.decided() if event in events]


def forgotten(settings: Settings, name: str, named: Named, *, patience: float, wait: Callable[[], None]) -> Erased:
    """Have the ledger of a home forget it: by the front that runs, else here. Done again it goes on, or finds it done.

    Args:
        name: of the erasure.
        wait: called now and then while the front is waited for.

    Raises:
        LoopError: a front holds the ledger and did not answer in time.
    """
    if not settings.ledger.exists():
        return Erased()
    request, reply = _mail(settings.gateway, name)
    if not request.exists():
        try:
            return _here(settings, named)
        except LoopError as error:
            if "expected no other writer" not in str(error):
                raise
        request.parent.mkdir(mode=0o700, exist_ok=True)
        reply.unlink(missing_ok=True)
        _write(request, msgspec.json.encode(named))
    until = time.monotonic() + patience
    while not reply.exists():
        if time.monotonic() > until:
            raise LoopError(
                f"the gateway did not take up {request.name} within {patience:.0f} s; is it a version that can erase? "
                "Restart it, or stop it, and erase again: it goes on where it was"
            )
        wait()
        time.sleep(0.1)
    told, more = msgspec.json.decode(reply.read_bytes(), type=tuple[Erased, Named])
    for field in ("events", "suggestions", "outcomes"):
        getattr(named, field).update(getattr(more, field))
    request.unlink(missing_ok=True)
    return told


def tidied(settings: Settings, name: str) -> None:
    """Remove what an erasure has left in the folder of requests, by itself or by a kill: it names what was erased."""
    for path in (settings.gateway / "erasing").glob(f"{name}.*"):
        path.unlink(missing_ok=True)


def _here(settings: Settings, named: Named) -> Erased:
    intake = Intake(settings.spool, settings.ledger)
    try:
        return asyncio.run(forget(intake, named))
    finally:
        intake.close()


async def answer(folder: Path, intake: Intake) -> None:
    """Do what the requests below a folder ask for; by the front, once a second."""
    for request in sorted((folder / "erasing").glob("*.json")):
        _, reply = _mail(folder, request.stem)
        if reply.exists():
            continue
        named = msgspec.json.decode(request.read_bytes(), type=Named)
        told = await forget(intake, named)
        if request.exists():  # else nobody waits for it any more
            _write(reply, msgspec.json.encode((told, named)))


def _mail(folder: Path, name: str) -> tuple[Path, Path]:
    stem = folder / "erasing" / name
    return stem.with_suffix(".json"), stem.with_suffix(".done")


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


# -- the spool --------------------------------------------------------------------------------------------------------


def rewrite(settings: Settings, named: Named) -> Erased:
    """Take its frames out of the sealed segments, and remove what lies aside and holds any of it.

    The caller holds the lock "drain the spool", so that nobody moves a segment meanwhile; and the front has sealed
    what it had when it was asked.
    """
    told = Erased()
    for path in sorted(settings.spool.glob("*.seg")):
        kept, gone = [], 0
        for frame in spool.frames(path):
            if _concerns(_decode_frame(frame), named):
                gone += 1
            else:
                kept.append(frame)
        if gone:
            spool.replace(path, kept)
            told.frames += gone
    fields = {
        "event_id": named.events,
        "suggestion_id": named.suggestions,
        "outcome_id": named.outcomes,
    }
    needles = [name.encode() for name in named.employees]  # pseudonyms, which are nothing else; an id may be any word
    needles += [b'"%b":%b' % (name.encode(), msgspec.json.encode(key)) for name, keys in fields.items() for key in keys]
    for suffix in ASIDE:
        for path in settings.spool.glob(suffix):
            data = path.read_bytes()
            if any(needle in data for needle in needles):
                path.unlink()
                told.files += 1
    return told


def told(erased: Erased) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(erased).items() if value}
