"""What one person does on the pages: sees a task, answers, skips, undoes, looks at their own work, appeals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from loop.config import Settings
from loop.errors import BadInputError, LoopError
from loop.gateway import veiling
from loop.gateway.http import Reply
from loop.gateway.labelling import forms, pages
from loop.gateway.labelling.forms import Given, Said
from loop.gateway.labelling.sessions import Signer, Ticket
from loop.label import annotators, fairness, gold
from loop.label.annotations import Action, Annotation, Recorded, record
from loop.label.annotators import PAGE, Annotator
from loop.label.pool import Pool, Task
from loop.label.queue import SETTLED, Queue, Stop
from loop.label.tasks import SEVERITIES, Kind
from loop.lake import Lake
from loop.privacy.masking import Veil
from loop.state import State

_QUOTED: Final = 2_000
"""Characters of a text that are quoted back to somebody."""

if TYPE_CHECKING:
    from loop.gateway.labelling.room import Asked


class Ended(Said):
    """Whoever answers does not label here any more; the message says what became of the answer."""


class Desk:
    """Everybody's desk, one page at a time. Safe for several threads."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        signer: Signer,
        count: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self.settings, self.state, self.signer, self.count, self.now = settings, state, signer, count, now
        self.lake = Lake(settings.lake)
        self.pool = Pool(self.lake, state)
        self.queue = Queue(settings, state, self.pool, now=now)
        self.reread: Callable[[], None] = lambda: None
        """Called when what is known of a person changed."""
        self._times = fairness.Times()
        self._find = veiling.finder(settings.privacy)

    def measure(self) -> None:
        """Estimate anew what tasks take."""
        self._times = fairness.times(self.lake, self.state)

    # -- a task -----------------------------------------------------------------------------------------------------

    def task(self, asked: Asked) -> Reply:
        """GET /label"""
        person = _person(asked)
        offer = self.queue.offer(person)
        if offer.task is None:
            return self._stopped(asked, offer.stop or Stop.NOTHING, offer.until)
        if offer.task.harm and offer.shown_at is None:
            ticket = self.signer.ticket(person.annotator, offer.task, None)
            return pages.reply("warning.html", harm=offer.task.harm, ticket=ticket, **self._frame(asked))
        ticket = self.signer.ticket(person.annotator, offer.task, offer.shown_at)
        return self._shown(asked, offer.task, ticket)

    def answer(self, asked: Asked) -> Reply:
        """POST /label/answer: an answer, a skip, or a part that is marked on the way to one."""
        person, at = _person(asked), self.now()
        ticket = self.signer.shown(person.annotator, asked.one("ticket"))
        if ticket is None:
            self.count("not shown")
            raise Said("This task was not shown to you. Nothing was stored.")
        task = self.pool.find(ticket.label_task_id, ticket.day, ticket.workflow)
        if task is None:
            self.count("unknown task")
            return pages.redirect("/label?said=gone")
        if asked.one("drop") or asked.one("action") == "add":
            return self._marking(asked, task)
        action = Action.SKIP if asked.one("action") == "skip" else Action.ANSWER
        try:
            swapped = self._swapped(task, person)
            if action is Action.SKIP:
                given = forms.skip(asked.form, find=self._find)
            else:
                given = forms.answer(task.content, asked.form, swapped=swapped, find=self._find)
            said = self._store(person, task, _annotation(person, ticket, action, given, at, swapped=swapped))
        except Ended:
            raise
        except Said as problem:
            return self._shown(asked, task, asked.one("ticket"), status=422, problem=str(problem))
        except (sa.exc.SQLAlchemyError, LoopError):
            self.count("not stored")
            problem_ = (
                "The database cannot be reached: this is not stored yet. Nothing of it is lost; it stands below as you "
                "sent it. Send it again in a moment."
            )
            return self._shown(asked, task, asked.one("ticket"), status=503, problem=problem_)
        return pages.redirect(f"/label?said={said}")

    def undo(self, asked: Asked) -> Reply:
        """POST /label/undo"""
        person = _person(asked)
        task = self.queue.last(person)
        if task is None:
            return pages.redirect("/label?said=nothing")
        taken = Annotation(task.label_task_id, person.annotator, self.now(), PAGE, action=Action.UNDO)
        self._record(person, task, taken)
        self.queue.undone(person, task)
        return pages.redirect("/label?said=undone")

    def reveal(self, asked: Asked) -> Reply:
        """POST /label/reveal"""
        self.queue.reveal(_person(asked))
        return pages.redirect("/label")

    def _store(self, person: Annotator, task: Task, taken: Annotation) -> str:
        """Store an answer or a skip; the word for what became of it."""
        before = self.queue.said(person, task)
        done = self._record(person, task, taken)
        if done.new or done.changed:
            self.queue.stored(person, task, taken.action, taken.answered_at, taken.shown_at)
        else:
            self.queue.cleared(person, task)
        if done.uncounted:
            (why,) = done.uncounted
            self.count(why)
            if why != "after the deadline":
                raise Ended("This answer came afterwards: it is kept and does not count.")
            return "late"
        outcome = "repeated" if done.repeated else "skipped" if taken.action is Action.SKIP else "saved"
        if done.changed and before is Action.ANSWER:
            outcome = "changed"
        self.count(outcome)
        return outcome

    def _record(self, person: Annotator, task: Task, taken: Annotation) -> Recorded:
        """Store one. Of somebody who was erased nothing is stored, also not before this process has heard of it.

        Raises:
            Said: it was not taken, and why.
        """
        done = record(self.state, task.row, [taken], strangers=False)
        for why in done.refused:
            self.count(why)
            if why == "from nobody who annotates":
                raise Ended("Nothing was stored of this answer.")
            raise Said(f"This was not stored: {why}.")
        return done

    def _marking(self, asked: Asked, task: Task) -> Reply:
        """A part is added to, or taken from, what is marked; nothing is stored."""
        form = dict(asked.form)
        content = task.content
        try:
            if dropped := asked.one("drop"):
                form["span"] = [span for span in form.get("span", []) if span != dropped]
            else:
                marked = forms.added(content, asked.form)
                form["span"] = [f"{s.start}:{s.end}:{content['options'].index(s.type)}" for s in marked]
                form["quote"] = [""]
        except Said as problem:
            return self._shown(asked, task, asked.one("ticket"), status=422, problem=str(problem))
        asked.form = form
        return self._shown(asked, task, asked.one("ticket"))

    # -- about oneself ----------------------------------------------------------------------------------------------

    def work(self, asked: Asked) -> Reply:
        """GET /label/work"""
        from loop.evaluate.stats import Share

        person = _person(asked)
        settled = self.now() - SETTLED
        own = fairness.own(self.state, self.lake, person.annotator, settled=settled)
        met = Share(own.right, own.known).interval() if own.known else None
        wrong, closed = self._wrong(person, settled)
        return pages.reply(
            "work.html",
            own=own,
            met=met,
            wrong=wrong,
            closed=closed,
            break_minutes=self.settings.break_minutes,
            break_after=self.settings.break_after_minutes,
            **self._frame(asked, here="work"),
        )

    def _wrong(self, person: Annotator, settled: datetime) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The person's answers that were not the known ones, with their appeals; and appeals on others."""
        mine = gold.appeals(self.state, annotator=person.annotator)
        found = []
        for one in gold.judged(self.state, person.annotator, before=settled):
            task = None if one.right else self.pool.find(one.label_task_id, one.day, one.workflow)
            if task is None:
                continue
            appeals = [a for a in mine if a["label_task_id"] == one.label_task_id]
            told = {
                "label_task_id": one.label_task_id,
                "label": _spoken(one.label, swapped=self._swapped(task, person)),
                "gold": _spoken(one.gold, swapped=self._swapped(task, person)),
                "harm": task.harm,
                "texts": [] if task.harm else self._texts(task, person),
                "appeals": appeals,
                "may_contest": not any(a["verdict"] is None or a["opened_at"] > one.known_since for a in appeals),
            }
            found.append(told)
        shown = {told["label_task_id"] for told in found}
        return found, [a for a in mine if a["verdict"] and a["label_task_id"] not in shown]

    def appeal(self, asked: Asked) -> Reply:
        """POST /label/appeal"""
        veil = Veil(self._find or (lambda _: []))
        argument = veil.mask(asked.one("argument")[:2_000])
        try:
            gold.contest(self.state, asked.one("task"), _person(asked).annotator, argument)
        except BadInputError as error:
            raise Said(str(error)) from None
        self.count("appeal")
        return pages.redirect("/label/work?said=contested")

    def harmful(self, asked: Asked) -> Reply:
        """POST /label/harmful: the person's own word on whether to be shown what can upset."""
        want = asked.one("want") == "yes"
        person = _person(asked)
        annotators.agree(self.state, person.annotator, harmful=want)
        self.reread()
        return pages.redirect(f"/label?said={'agreed' if want else 'declined'}")

    # -- pages ------------------------------------------------------------------------------------------------------

    def _shown(self, asked: Asked, task: Task, ticket: str, *, status: int = 200, problem: str = "") -> Reply:
        person, content = _person(asked), task.content
        places = pages.places(content, swapped=self._swapped(task, person))
        text = content["texts"][0] if content["texts"] else ""
        names = ("label", "type", "severity", "text", "attempt", "outcome", "note", "why", "quote")
        given = {name: forms.one(asked.form, name) for name in names}
        if "text" not in asked.form and task.kind == Kind.REWRITE:
            given["text"] = text
        marked: Sequence[forms.Span] = forms.spans(content, asked.form) if task.kind == Kind.SPAN else ()
        spans = [
            {"value": f"{s.start}:{s.end}:{task.options.index(s.type)}", "type": s.type, "text": text[s.start : s.end]}
            for s in marked
        ]
        chars = sum(map(len, content["texts"])) + sum(len(m["content"]) for m in content["prompt"])
        time = self._times.of(task.kind, chars)
        floor = self.settings.pay_floor_per_hour
        return pages.reply(
            "task.html",
            status=status,
            images=[place["image"] for place in places if place["image"]],
            task=content,
            ticket=ticket,
            places=places,
            pieces=pages.marked(text, marked) if task.kind == Kind.SPAN else (),
            spans=spans,
            severities=SEVERITIES,
            given=given,
            **self._frame(
                asked,
                problem=problem,
                time=time,
                pay=fairness.pay(self._times, person.pay_per_hour, task.kind, chars),
                floor=fairness.pay(self._times, floor, task.kind, chars),
            ),
        )

    def _stopped(self, asked: Asked, stop: Stop, until: datetime | None) -> Reply:
        heading, lines = {
            Stop.ENOUGH: (
                "That is enough for today",
                ["You have labelled for all the minutes that you are asked in a day. Thank you."],
            ),
            Stop.BREAK: (
                "Time for a break",
                [
                    f"You have worked for {self.settings.break_after_minutes} minutes without one. "
                    + (f"The next task is ready at {until:%H:%M} UTC." if until else ""),
                ],
            ),
            Stop.NOTHING: ("Nothing is left for you now", ["You have done all that there was. Look in again later."]),
        }[stop]
        frame = self._frame(asked)
        return pages.reply("message.html", heading=heading, lines=lines, onward="/label", action="Look again", **frame)

    def _swapped(self, task: Task, person: Annotator) -> bool:
        return task.kind == Kind.PREFERENCE and self.queue.swapped(task, person.annotator)

    def _texts(self, task: Task, person: Annotator) -> list[str]:
        """What was judged, the beginning of each, in the order in which the person saw it."""
        texts = [text[:_QUOTED] for text in task.content["texts"]]
        return texts[::-1] if self._swapped(task, person) else texts

    def _frame(self, asked: Asked, *, here: str = "task", problem: str = "", **more: Any) -> dict[str, Any]:
        """What every page of a person holds."""
        person = _person(asked)
        assert asked.session is not None
        return {
            "csrf": self.signer.form(asked.session),
            "said": asked.said,
            "problem": problem,
            "here": here,
            "undo": self.queue.last(person) is not None,
            "person": person,
            "progress": self.queue.progress(person),
            "currency": self.settings.pay_currency,
            "floor_per_hour": self.settings.pay_floor_per_hour,
            "time": None,
            "pay": None,
            "floor": None,
            "shortcuts": here == "task",
            **more,
        }


def _person(asked: Asked) -> Annotator:
    assert asked.person is not None, "the room lets nobody in here who is not known"
    return asked.person


def _annotation(  # noqa: PLR0913 - one a column
    person: Annotator, ticket: Ticket, action: Action, given: Given, at: datetime, *, swapped: bool
) -> Annotation:
    return Annotation(
        ticket.label_task_id,
        person.annotator,
        at,
        PAGE,
        action=action,
        label=given.label,
        content=given.content,
        reason=given.reason,
        swapped=swapped,
        shown_at=ticket.shown_at,
        seconds=None if ticket.shown_at is None else max(0.0, (at - ticket.shown_at).total_seconds()),
    )


def _spoken(label: str, *, swapped: bool) -> str:
    """A label as the person saw it: of a preference, the place on that person's page."""
    if label in ("first", "second") and swapped:
        return "second" if label == "first" else "first"
    return label
