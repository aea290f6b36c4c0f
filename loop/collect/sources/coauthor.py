"""CoAuthor: writing sessions of people with GPT-3, every keystroke and every suggestion (Lee et al., CHI 2022).

One interaction per `suggestion-open`. A session's edits are replayed, so that what became of a taken suggestion is
known: it stands verbatim (accept), was changed (modify), or is gone (modify, empty text, reason `deleted`). What is
shown in the list is `trimmed`; what the editor inserts is `original`, which often begins with line breaks: `original`
is the candidate's text. `currentSuggestionIndex` does not say what was taken (it stays 0 on a click): the inserted text
does. The data set: https://coauthor.stanford.edu.
"""

from __future__ import annotations

import csv
import math
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import msgspec

from loop.collect.events import CLOCK_BACKWARDS, WRITER_UNKNOWN, Reason
from loop.collect.record import Fault, Progress, Record, Source
from loop.collect.sources.replay import Opening, Replay, decode
from loop.errors import BadInputError

WORKFLOW: Final = "comms"
SESSION_BYTES: Final = 200_000_000
"""A longer session is no session; the longest of the data set has 6 MB."""
MODEL: Final = "gpt-3 davinci"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# -- sessions: what the CSV tells, what a file holds ------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What the CSV tells of a session."""

    worker: str
    task: str
    openings: int
    selections: int
    events: int

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.openings, self.selections, self.events


def read(path: Path, *, sessions: Path | None = None, progress: Progress | None = None) -> Source:
    """The openings of a CoAuthor archive (`.tar.xz`) or folder (of `.jsonl`), as events.

    Args:
        path: archive or folder. Nothing is ever extracted to disk.
        sessions: the CSV of sessions; by default the one of the same stem beside `path`. Without one a session stands
            for its writer, `writer_known` is false, and every event carries the reason `writer_unknown`.
        progress: called with the bytes of the source read so far, and how many there are.

    Raises:
        BadInputError: at once or while the records are drawn: not such an archive, cut short, or not such a CSV.
    """
    if not path.exists():
        raise BadInputError(f"{path}: no such file or folder; expected a CoAuthor .tar.xz or a folder of .jsonl files")
    if path.is_file() and not path.name.endswith(".tar.xz"):
        raise BadInputError(f"{path}: expected a .tar.xz or a folder of .jsonl files")
    if sessions is None:
        beside = path.parent / f"{path.name.removesuffix('.tar.xz')}.csv"
        told = _told(beside) if beside.exists() else {}
    else:
        told = _told(sessions)
    return Source("coauthor", path, _records(path, told, progress or (lambda *_: None)), writer_known=bool(told))


def _told(path: Path) -> dict[str, Told]:
    """The CSV of sessions, by session id."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = ", ".join(rows.fieldnames or ()) or "none"
            return {
                row["session_id"]: Told(
                    worker=row["worker_id"],
                    task=row["prompt_code"],
                    openings=int(row["num_query"]),
                    selections=int(row["num_selected"]),
                    events=int(row["num_event"]),
                )
                for row in rows
            }
    except OSError as error:
        raise BadInputError(f"{path}: expected a CSV of sessions: {error.strerror}") from None
    except KeyError as error:
        raise BadInputError(f"{path}: expected a CSV of sessions with a column {error}, got {columns:.200}") from None
    except (ValueError, TypeError, csv.Error) as error:
        raise BadInputError(f"{path}: expected a CSV of sessions: {error}") from None


def _records(path: Path, told: dict[str, Told], progress: Progress) -> Iterator[Record]:
    found = 0
    for name, content in _folder(path, progress) if path.is_dir() else _archive(path, progress):
        session = PurePosixPath(name).stem
        found += 1
        yield from openings(content, session=session, member=name, told=told.get(session))
    if not found:
        raise BadInputError(f"{path}: expected CoAuthor sessions, got no .jsonl file")


def _folder(path: Path, progress: Progress) -> Iterator[tuple[str, bytes]]:
    files = sorted(path.rglob("*.jsonl"))
    for done, file in enumerate(files, 1):
        if file.stat().st_size > SESSION_BYTES:
            raise BadInputError(f"{file}: expected a session of at most {SESSION_BYTES:,} bytes")
        yield file.relative_to(path).as_posix(), file.read_bytes()
        progress(done, len(files))


def _archive(path: Path, progress: Progress) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member, streamed; all of the archive must be there, and nothing else in it."""
    import lzma

    with path.open("rb") as file, _unreadable(path), lzma.open(file) as unpacked:
        tail = _Tail(unpacked)
        with tarfile.open(fileobj=tail, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                if member.isdir():
                    continue
                if not member.isfile() or not member.name.endswith(".jsonl"):
                    raise BadInputError(f"{path}: expected .jsonl files only, got {member.name!r}; repack without it")
                if member.size > SESSION_BYTES:
                    raise BadInputError(f"{path}: {member.name!r} is larger than {SESSION_BYTES:,} bytes")
                content = archive.extractfile(member)
                assert content is not None
                yield member.name, content.read()
                progress(file.tell(), path.stat().st_size)
        # A tar ends with blocks of zeros. Without them it was cut short between two members, which tarfile forgives.
        while tail.read(1 << 20):
            pass
        if tail.last.strip(b"\0"):
            raise EOFError


class _Tail:
    """A stream that remembers the last block read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.last = b"\1"

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data)[-512:] if len(data) < 512 else data[-512:]
        return data


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    from lzma import LZMAError

    try:
        yield
    except EOFError:
        raise BadInputError(f"{path}: the archive is cut short; nothing of it was imported: fetch it again") from None
    except (LZMAError, tarfile.TarError) as error:
        raise BadInputError(f"{path}: expected a .tar.xz archive: {error}") from None


# -- one session ------------------------------------------------------------------------------------------------------


def openings(content: bytes, *, session: str, member: str, told: Told | None) -> Iterator[Record]:
    """The openings of one session, each as an event in the wire format, in the order of the file.

    A session that cannot be replayed to its end says nothing certain about any of its openings: each is then given as
    it came, with the fault, and so is each line that could not be read.
    """
    lines = content.split(b"\n")
    replay = Replay()
    try:
        for number, line in enumerate(lines, 1):
            if line:
                replay.take(number, decode(line, number))
        document = replay.end(told.counts if told else None)
    except BadInputError as error:
        yield from _faulty(lines, member, f"session {session}: {error}")
        return
    common = _common(replay, session, told)
    for turn, opening in enumerate(replay.openings):
        decision, final_text, reasons = opening.outcome(document)
        event = {
            **common,
            **_shown(opening, session),
            "turn": turn,
            "decision": decision,
            "chosen": opening.chosen,
            "final_text": final_text,
            "reasons": [*reasons, *common["reasons"]],
        }
        yield Record(opening.line, msgspec.json.encode(event), path=member)


def _faulty(lines: list[bytes], member: str, why: str) -> Iterator[Record]:
    """The openings of a session as they came, and its unreadable lines; its first line where there is neither."""
    given = False
    for number, line in enumerate(lines, 1):
        fault = Fault(Reason.SESSION, why, workflow=WORKFLOW)
        try:
            if not line or (log := decode(line, number)).event_name != "suggestion-open":
                continue
            fault = replace(fault, day=_time(log.event_timestamp).date())
        except BadInputError:
            pass
        given = True
        yield Record(number, line, path=member, fault=fault)
    if not given:
        yield Record(1, lines[0], path=member, fault=Fault(Reason.SESSION, why, workflow=WORKFLOW))


def _common(replay: Replay, session: str, told: Told | None) -> dict[str, Any]:
    """What all events of a session share.

    Received when the session ended: only then is it known what became of a suggestion.
    """
    digest = blake2b(replay.first_document.encode(), digest_size=8).hexdigest()
    backwards = [CLOCK_BACKWARDS] if replay.clock_backwards else []
    return {
        "episode_id": f"coauthor:{session}",
        "task_id": told.task if told else f"document-{digest}",
        "workflow": WORKFLOW,
        "received_at": _time(replay.latest),
        "employee": told.worker if told else session,
        "visibility": [],
        "reasons": backwards if told else [*backwards, WRITER_UNKNOWN],
        "purposes": ["training", "evaluation"],
    }


def _shown(opening: Opening, session: str) -> dict[str, Any]:
    """What was shown, when, and when it was decided on. Where the clock ran backwards in between, that is not known."""
    log, decided = opening.log, opening.decided
    if decided is not None and decided < log.event_timestamp:
        decided = None
    key = f"coauthor:{session}:{log.event_num}"
    return {
        "event_id": key,
        "suggestion_id": key,
        "shown_at": _time(log.event_timestamp),
        "decided_at": None if decided is None else _time(decided),
        "dwell_ms": None if decided is None else decided - log.event_timestamp,
        "prompt": [{"role": "user", "content": opening.prompt}],
        "candidates": [
            {"position": position, "text": shown.original, "logprob": _logprob(shown.probability)}
            for position, shown in enumerate(log.current_suggestions)
        ],
        "model_version": f"{MODEL} temperature={log.current_temperature},"
        f"frequency_penalty={log.current_frequency_penalty}",
    }


def _logprob(probability: float | None) -> float | None:
    """In nats; null where the log's number is no probability (nine of the data set's 24,269 are above 1)."""
    return math.log(probability) if probability is not None and 0 < probability <= 1 else None


def _time(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)
