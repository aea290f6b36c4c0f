"""Tasks into Label Studio: its projects hold what waits for answers, each task once, and nothing that is gone here."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random, SystemRandom
from typing import Any, Final

from loop.collect.events import pseudonyms
from loop.config import Settings
from loop.errors import LoopError
from loop.label import tasks
from loop.label.annotators import annotators
from loop.label.pool import standing_of
from loop.label.studio import hook
from loop.label.studio.forms import Form, data
from loop.label.studio.rest import Rest
from loop.label.tasks import Kind
from loop.lake import Days, Lake
from loop.services import processes
from loop.state import State

BATCH: Final = 500
"""Tasks that are sent at a time; they arrive together or not at all."""
NOT_AGREED: Final = "harmful, and not everybody with an account there agreed to see such"
_HOOKED: Final = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
_SETTINGS: Final[Mapping[str, Any]] = {
    "sampling": "Uniform sampling",
    "show_skip_button": True,
    "skip_queue": "REQUEUE_FOR_OTHERS",
    "show_annotation_history": False,
    "show_collab_predictions": False,
    "show_ground_truth_first": False,
    "evaluate_predictions_automatically": False,
    "reveal_preannotations_interactively": False,
}


@dataclass
class Pushed:
    """What became of the tasks: `new + there + left_out.total()` is all of them."""

    new: int = 0
    there: int = 0
    """It had them already."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Not sent, by reason."""
    withdrawn: int = 0
    """Tasks that it had and that are gone here, as after an erasure: they were deleted there."""
    projects: dict[str, int] = field(default_factory=dict)
    """Title to number."""


def push(  # noqa: PLR0913 - by keyword
    settings: Settings,
    lake: Lake,
    state: State,
    rest: Rest,
    *,
    now: datetime,
    days: Days | None = None,
    workflows: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    harmful: bool = False,
    hook_url: str | None = None,
    random: Random | None = None,
) -> Pushed:
    """Send the tasks that still want answers and are not there; delete there what is in the lake no more.

    Args:
        harmful: whether tasks with a warning go there too, into projects of their own. Everybody with an account there
            sees every project, and nobody counts what a person was exposed to: they go only if all of them agreed.
        hook_url: where the gateway is told that something was answered; see `loop.gateway.studio`.
        random: of the sides; by default the system's.

    Raises:
        LoopError: it does not answer, or another push is under way.
    """
    done = Pushed()
    with processes.locked(settings, "studio-push.lock", patience=10.0):
        harm = "harmful" if not harmful else None if _agreed(settings, state, rest) else NOT_AGREED
        rows = tasks.read(lake, days=days, workflows=workflows).to_pylist()
        answered = standing_of(state, [row["label_task_id"] for row in rows])
        wanted: dict[Form, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if why := _left_out(row, answered, now, kinds=kinds, harm=harm):
                done.left_out[why] += 1
            else:
                wanted[Form.of(row)].append(row)
        home = hook.owner(settings)
        existing = ours(settings, rest.projects())
        there = {mark: _there(rest, project["id"]) for mark, project in existing.items()}
        _withdraw(rest, lake, there.values(), done)
        for form, asked in sorted(wanted.items(), key=lambda item: item[0].mark(home)):
            mark = form.mark(home)
            project = _ensure(rest, form, mark, existing.get(mark), max(row["wanted"] for row in asked))
            done.projects[form.title] = project
            fresh = [row for row in asked if row["label_task_id"] not in there.get(mark, {})]
            _send(rest, project, fresh, random or SystemRandom())
            done.new += len(fresh)
            done.there += len(asked) - len(fresh)
        for project in {project["id"] for project in existing.values()} | set(done.projects.values()):
            _hook(settings, rest, project, hook_url)
    assert done.new + done.there + done.left_out.total() == len(rows), "a task was lost"
    return done


def withdraw(settings: Settings, lake: Lake, rest: Rest) -> int:
    """Delete there what is in the lake no more, as after an erasure; how many tasks that were. Their answers here stay
    or go by what the erasure says of them.
    """
    done = Pushed()
    _withdraw(rest, lake, [_there(rest, project["id"]) for project in ours(settings, rest.projects()).values()], done)
    return done.withdrawn


def ours(settings: Settings, projects: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The projects that this home made, by the mark of their form; of two with one mark the older.

    Another home's are left alone: what it sent is not known here, and would be taken for erased.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for project in sorted(projects, key=lambda one: -one["id"]):
        _, sign, mark = str(project["description"] or "").rpartition(f"[loop:{hook.owner(settings)}/")
        if sign:
            found[sign + mark.strip()] = project
    return found


def _left_out(
    row: Mapping[str, Any],
    answered: Mapping[str, int],
    now: datetime,
    *,
    kinds: Sequence[str] | None,
    harm: str | None,
) -> str | None:
    """Why a task is not sent; `harm` says why none with a warning is."""
    if kinds is not None and row["kind"] not in kinds:
        return "of another kind"
    if row["due_at"] is not None and row["due_at"] <= now:
        return "after its deadline"
    if row["harm"] is not None and harm is not None:
        return harm
    return "answered" if answered.get(row["label_task_id"], 0) >= row["wanted"] else None


def _agreed(settings: Settings, state: State, rest: Rest) -> bool:
    """Whether everybody with an account there agreed to see harmful texts; not asked is whose token this is."""
    people = {address.strip().lower() for address in rest.users().values()} - {rest.owner().strip().lower()}
    agreed = {one.annotator for one in annotators(state) if one.harmful and one.removed_at is None}
    return bool(people) and all(agreed.intersection(pseudonyms(person, settings)) for person in people)


def _there(rest: Rest, project: int) -> dict[str, int]:
    """Of the tasks that were sent to a project: our id to its."""
    found: dict[str, int] = {}
    for page in rest.tasks(project, answers=False):
        for task in page:
            if isinstance(task["meta"], dict) and "label_task_id" in task["meta"]:
                found[str(task["meta"]["label_task_id"])] = int(task["id"])
    return found


def _withdraw(rest: Rest, lake: Lake, there: Iterable[dict[str, int]], done: Pushed) -> None:
    """Delete there what is gone here, of any day and workflow; nothing where the lake has no such table at all.

    An answer to what is gone here could be stored nowhere, so none is lost that was not to go.
    """
    if lake.version("label_tasks") is None:
        return
    known = {str(value) for piece in lake.scan("label_tasks", ["label_task_id"]) for value in piece[0].to_pylist()}
    for project in there:
        for label_task_id in [label_task_id for label_task_id in project if label_task_id not in known]:
            rest.ask("DELETE", f"/api/tasks/{project.pop(label_task_id)}/")
            done.withdrawn += 1


def _ensure(rest: Rest, form: Form, mark: str, project: Mapping[str, Any] | None, wanted: int) -> int:
    """The number of a form's project, made or brought up to what is asked now."""
    given = {**_SETTINGS, "label_config": form.config(), "enable_empty_annotation": form.kind is Kind.SPAN}
    if project is None:
        told = f"Made and filled by Loop; its answers are copied there. {mark}"
        made = {**given, "title": form.title, "description": told, "maximum_annotations": wanted}
        return int(rest.ask("POST", "/api/projects/", send=made)["id"])
    given["maximum_annotations"] = max(wanted, project["maximum_annotations"])
    changed = {name: value for name, value in given.items() if project.get(name) != value}
    if changed:
        rest.ask("PATCH", f"/api/projects/{project['id']}/", send=changed)
    return int(project["id"])


def _send(rest: Rest, project: int, rows: list[dict[str, Any]], random: Random) -> None:
    """Send tasks, in an order that says nothing. `pushed` names this copy: its answers are known again by it."""
    random.shuffle(rows)
    for start in range(0, len(rows), BATCH):
        batch = []
        for row in rows[start : start + BATCH]:
            swapped = row["kind"] == Kind.PREFERENCE and random.random() < 0.5
            meta = {"label_task_id": row["label_task_id"], "swapped": swapped, "pushed": secrets.token_hex(8)}
            batch.append({"data": data(row, swapped=swapped), "meta": meta})
        told = rest.ask("POST", f"/api/projects/{project}/import", send=batch)
        if told.get("task_count") != len(batch):
            raise LoopError(
                f"Label Studio at {rest.url} took {told.get('task_count')} of {len(batch)} tasks; push again: what is "
                "there is not sent again"
            )


def _hook(settings: Settings, rest: Rest, project: int, url: str | None) -> None:
    """Have the gateway told of answers: that there are some, not what they say."""
    if url is None:
        return
    wanted = {
        "url": url,
        "project": project,
        "send_payload": False,
        "send_for_all_actions": False,
        "is_active": True,
        "headers": {"Authorization": f"Bearer {hook.secret(settings)}"},
        "actions": list(_HOOKED),
    }
    mine = [
        one for one in rest.ask("GET", "/api/webhooks/", params={"project": project}) if one["url"].endswith(hook.PATH)
    ]
    if not mine:
        rest.ask("POST", "/api/webhooks/", send=wanted)
    elif any(mine[0][name] != wanted[name] for name in ("url", "headers", "is_active")):
        rest.ask("PATCH", f"/api/webhooks/{mine[0]['id']}/", send=wanted)
