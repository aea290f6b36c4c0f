"""Answers out of Label Studio: those of tasks that changed since last time, copied at once, every change a version.

How far it got stands in a file of the home, and moves only after what was read is stored; what is read twice is stored
once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import pyarrow as pa
import sqlalchemy as sa

from loop import schema
from loop.collect.events import pseudonyms
from loop.config import Settings
from loop.errors import LoopError
from loop.label import outside
from loop.label.annotations import Action, Annotation, Recorded, record
from loop.label.studio import forms
from loop.label.studio.push import ours
from loop.label.studio.rest import Rest
from loop.lake import Lake
from loop.privacy.recognise import Find, recogniser
from loop.services import processes
from loop.state import State
from loop.views import viewed

SOURCE: Final = "studio"
OVERLAP: Final = timedelta(minutes=5)
"""Read again each time: an answer may be visible later than the moment it bears."""
WHOLE: Final = timedelta(days=1)
"""After which everything is read again: what was stamped wrongly there is found then."""


@dataclass
class Pulled:
    """What became of the answers: `answers + undone == older + set_aside.total() + recorded.total`."""

    tasks: int = 0
    """That changed since last time, and were looked at."""
    answers: int = 0
    """That they have now."""
    undone: int = 0
    """Answers that were stored and that are deleted there."""
    older: int = 0
    """Of a person who gave several to one task: all but the last."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """Answers that mean nothing, by reason."""
    recorded: Recorded = field(default_factory=Recorded)
    foreign: int = 0
    """Tasks in the projects that nobody here has sent."""


class _Cursor(msgspec.Struct):
    """How far a server's answers were read, by its own clock."""

    read: datetime
    whole: datetime
    """When everything was read."""


@dataclass(frozen=True)
class _Stored:
    """A last version that came from a task of Label Studio's."""

    annotator: str
    annotation: int


def pull(settings: Settings, lake: Lake, state: State, rest: Rest, *, whole: bool = False) -> Pulled:
    """Copy what changed since last time.

    Args:
        whole: read everything; done once a day in any case.

    Raises:
        LoopError: it does not answer: what was read before that is stored, and the next pull begins where this did.
    """
    done = Pulled()
    with processes.locked(settings, "studio-pull.lock", patience=60.0):
        cursors = _read(settings)
        last = cursors.get(_name(settings, rest))
        projects = ours(settings, rest.projects())
        began = rest.now
        whole = whole or last is None or began - last.whole > WHOLE
        since = None if whole or last is None else last.read - OVERLAP
        people, find = _People(settings, state, rest.users()), recogniser(settings.privacy)
        for project in projects.values():
            for page in rest.tasks(project["id"], since=since):
                _store(lake, state, page, people, find, done)
        cursors[_name(settings, rest)] = _Cursor(began, began if whole or last is None else last.whole)
        processes.replace(settings.studio / "cursor.json", msgspec.json.encode(cursors))
    total = done.older + done.set_aside.total() + done.recorded.total
    assert done.answers + done.undone == total, "an answer was lost"
    return done


class _People:
    """Pseudonyms of those who have accounts there."""

    def __init__(self, settings: Settings, state: State, users: Mapping[int, str]) -> None:
        names = {user: pseudonyms(address, settings) for user, address in users.items()}
        table = state.tables["annotators"]
        every = sorted({name for some in names.values() for name in some})
        with state.engine.connect() as connection:
            known = set(connection.execute(sa.select(table.c.annotator).where(table.c.annotator.in_(every))).scalars())
        # Under an older key somebody may be known already; who is not is told by the current one.
        self._names = {user: next((n for n in some if n in known), some[0]) for user, some in names.items()}
        self._settings, self._state, self._addresses = settings, state, users

    def __getitem__(self, user: Any) -> str | None:
        if isinstance(user, dict):
            user = user.get("id")
        return self._names.get(user)

    def erased(self) -> dict[str, datetime]:
        """By pseudonym: before when what an erased person said is not to be stored. As it is now, not at the start."""
        gone = outside.erased(self._settings, self._state, self._addresses.values())
        return {self._names[user]: gone[address] for user, address in self._addresses.items() if address in gone}


def _store(  # noqa: PLR0913, PLR0917 - what a page is read with
    lake: Lake, state: State, page: Sequence[Mapping[str, Any]], people: _People, find: Find | None, done: Pulled
) -> None:
    """Store what stands in some tasks of Label Studio's."""
    sent = [task for task in page if isinstance(task["meta"], dict) and "pushed" in task["meta"]]
    done.tasks += len(sent)
    done.foreign += len(page) - len(sent)
    asked = _asked(lake, [task["meta"]["label_task_id"] for task in sent])
    known = {row["label_task_id"]: row for row in asked.to_pylist()}
    stored = _stored(state, [task["meta"]["label_task_id"] for task in sent])
    erased = people.erased()
    found: list[Annotation] = []
    for task in sent:
        row = known.get(task["meta"]["label_task_id"])
        given = list(task["annotations"])
        done.answers += len(given)
        if row is None:
            done.set_aside["of a task that is gone here"] += len(given)
        elif task["data"] != forms.data(row, swapped=bool(task["meta"]["swapped"])):
            done.set_aside["what was shown was changed there"] += len(given)
        else:
            found += _of_task(task, row, stored.get(task["meta"]["pushed"], []), people, find, done)
    kept = [one for one in found if one.annotator not in erased or one.answered_at >= erased[one.annotator]]
    done.set_aside.update(["erased"] * (len(found) - len(kept)))
    if kept:
        _add(done.recorded, record(state, asked, kept))


def _of_task(  # noqa: PLR0913, PLR0917 - what a task is read with
    task: Mapping[str, Any],
    row: Mapping[str, Any],
    stored: Sequence[_Stored],
    people: _People,
    find: Find | None,
    done: Pulled,
) -> Iterator[Annotation]:
    """The last word of each person on a task, and that somebody has none any more.

    Who changed an answer last is who says it: another's answer that a person overwrites is that person's, and what its
    author said before stands as it was copied.
    """
    by_person: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for given in task["annotations"]:
        person = people[given.get("updated_by")] or people[given.get("completed_by")]
        if person is None:
            done.set_aside["from nobody who has an account there"] += 1
        else:
            by_person[person].append(given)
    for person, several in by_person.items():
        last = max(several, key=lambda one: (one["updated_at"], one["id"]))
        done.older += len(several) - 1
        try:
            yield _annotation(task, row, person, last, find)
        except forms.Unreadable as why:
            done.set_aside[str(why)] += 1
    there = {given["id"] for given in task["annotations"]}
    for before in stored:
        if before.annotation not in there and before.annotator not in by_person:
            done.undone += 1
            yield Annotation(
                row["label_task_id"],
                before.annotator,
                _time(task["updated_at"]),
                SOURCE,
                action=Action.UNDO,
                source_id=_source_id(task, before.annotation),
            )


def _annotation(
    task: Mapping[str, Any], row: Mapping[str, Any], person: str, given: Mapping[str, Any], find: Find | None
) -> Annotation:
    swapped = bool(task["meta"]["swapped"])
    if given.get("was_cancelled"):
        action = Action.SKIP
        said = forms.Said(reason=forms.reason_of(given["result"], find) or "skipped in Label Studio")
    else:
        action, said = Action.ANSWER, forms.read(row, given["result"], swapped=swapped, find=find)
    return Annotation(
        row["label_task_id"],
        person,
        _time(given["updated_at"]),
        SOURCE,
        action=action,
        label=said.label,
        content=said.content,
        reason=said.reason,
        swapped=swapped,
        source_id=_source_id(task, given["id"]),
        seconds=given["lead_time"] if isinstance(given.get("lead_time"), int | float) else None,
    )


def _source_id(task: Mapping[str, Any], annotation: int) -> str:
    """Its number there, and which copy of the task it belongs to: numbers begin anew with a new database."""
    return f"{task['meta']['pushed']}/{annotation}"


def _stored(state: State, label_task_ids: Sequence[str]) -> dict[str, list[_Stored]]:
    """What stands here and came from there, by the copy of the task that it was given in."""
    table = state.tables["annotations"]
    last = (
        sa.select(table.c.annotator, table.c.action, table.c.source, table.c.source_id)
        .where(table.c.label_task_id.in_(label_task_ids))
        .distinct(table.c.label_task_id, table.c.annotator)
        .order_by(table.c.label_task_id, table.c.annotator, table.c.version.desc())
        .subquery()
    )
    query = sa.select(last).where(last.c.source == SOURCE, last.c.action != Action.UNDO.value)
    found: dict[str, list[_Stored]] = defaultdict(list)
    with state.engine.connect() as connection:
        for row in connection.execute(query):
            pushed, _, number = str(row.source_id).partition("/")
            found[pushed].append(_Stored(row.annotator, int(number)))
    return found


def _asked(lake: Lake, label_task_ids: Sequence[str]) -> pa.Table:
    """Those rows of `label_tasks`."""
    with lake.pinned("label_tasks"):
        files = lake.files("label_tasks")
        with viewed(files, schema.LABEL_TASKS.arrow, view="label_tasks", of_lake=True) as connection:
            connection.register("wanted", pa.table({"label_task_id": pa.array(label_task_ids, pa.string())}))
            query = "SELECT * FROM label_tasks SEMI JOIN wanted USING (label_task_id)"
            return connection.sql(query).to_arrow_table()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _name(settings: Settings, rest: Rest) -> str:
    return rest.url if settings.studio_url else "home"


def _read(settings: Settings) -> dict[str, _Cursor]:
    path = settings.studio / "cursor.json"
    settings.make_home()
    settings.studio.mkdir(mode=0o700, exist_ok=True)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Cursor])
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError as error:
        raise LoopError(f"{path}: expected how far was pulled, got {error}; remove it: all is read anew") from None


def _add(total: Recorded, more: Recorded) -> None:
    total.new += more.new
    total.repeated += more.repeated
    total.changed += more.changed
    total.refused.update(more.refused)
    total.uncounted.update(more.uncounted)
