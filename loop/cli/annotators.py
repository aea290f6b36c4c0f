"""Commands on people who label: who they are and what they may be asked, known answers, and appeals against these."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from loop import config
from loop.cli import output
from loop.home import open_home

annotators = typer.Typer(help="People who label on the gateway's page.", no_args_is_help=True)
gold = typer.Typer(help="Tasks whose right answer is known, hidden among the rest.", no_args_is_help=True)
appeals = typer.Typer(help="What annotators contest of known answers.", no_args_is_help=True)

Person = Annotated[str, typer.Argument(help="The person's id, pseudonym or token.")]
Task = Annotated[str, typer.Argument(help="Id of a task, or how it begins.")]
Why = Annotated[str, typer.Option("--reason", help="Where it is known from, or why it changes; it is kept.")]


# -- people -----------------------------------------------------------------------------------------------------------


@annotators.command("add")
def add(  # noqa: PLR0913, PLR0917 - one an option
    person: Annotated[str, typer.Argument(help="The person's id; only a keyed hash of it is kept.")],
    workflow: Annotated[list[str], typer.Option(help="A workflow whose tasks the person is asked; may be repeated.")],
    kind: Annotated[list[str] | None, typer.Option(help="A kind of task; may be repeated. By default all.")] = None,
    harmful: Annotated[bool, typer.Option("--harmful", help="The person agreed to see harmful texts.")] = False,
    daily_minutes: Annotated[int | None, typer.Option(help="Most minutes a day; by default 240.")] = None,
    daily_harmful: Annotated[int | None, typer.Option(help="Most harmful texts a day; by default 30.")] = None,
    pay_per_hour: Annotated[float | None, typer.Option(help="What an hour is paid; at least the floor.")] = None,
    json: bool = output.Json,
) -> None:
    """Ask a person in, and show the token once: with it the person logs in at /label of the gateway."""
    from loop.label import annotators as people
    from loop.label.tasks import Kind

    settings = config.load()
    with open_home(settings) as home:
        who, token = people.add(
            settings,
            home.state,
            person=person,
            workflows=workflow,
            kinds=kind or tuple(Kind),
            harmful=harmful,
            daily_minutes=people.DAILY_MINUTES if daily_minutes is None else daily_minutes,
            daily_harmful=people.DAILY_HARMFUL if daily_harmful is None else daily_harmful,
            pay_per_hour=pay_per_hour,
            author=getpass.getuser(),
        )
    if json:
        output.emit_json({"token": token, **asdict(who)})
        return
    print(token)  # alone on stdout, so that a shell can take it
    output.stderr.print(f"{who.annotator} logs in with it at /label of the gateway. It is shown this once.")


@annotators.command("list")
def list_(json: bool = output.Json) -> None:
    """Everybody who labels, by pseudonym, with what each may be asked."""
    from loop.label import annotators as people

    with open_home(config.load()) as home:
        found = [asdict(who) for who in people.annotators(home.state)]
    if json:
        output.emit_json({"annotators": found})
        return
    columns = ["annotator", "source", "workflows", "kinds", "harmful", "daily_minutes", "daily_harmful", "pay_per_hour"]
    output.table("Annotators", [*columns, "removed"], [[*map(row.get, columns), row["removed_at"]] for row in found])


@annotators.command("remove")
def remove(person: Person, json: bool = output.Json) -> None:
    """End a person's labelling. What was answered stays; `loop erase --employee ID` takes that too."""
    from loop.label import annotators as people

    settings = config.load()
    with open_home(settings) as home:
        who = people.remove(settings, home.state, person, getpass.getuser())
    if json:
        output.emit_json(asdict(who))
    else:
        output.stdout.print(f"{who.annotator} labels no more, as of {who.removed_at:%Y-%m-%d %H:%M} UTC.")


@annotators.command("token")
def token_(person: Person, json: bool = output.Json) -> None:
    """Give a person a new token; the old one and all open pages end with it."""
    from loop.label import annotators as people

    settings = config.load()
    with open_home(settings) as home:
        made = people.renew(settings, home.state, person, getpass.getuser())
    if json:
        output.emit_json({"token": made})
    else:
        print(made)


@annotators.command("stats")
def stats(json: bool = output.Json) -> None:
    """What is needed to pay people and to limit their load; known answers only with intervals, and no ranking.

    People stand by pseudonym. Of fewer than ten known answers of a person, and of fewer than ten people, nothing is
    told about how they work.
    """
    from loop.evaluate.stats import Share
    from loop.label import fairness

    settings = config.load()
    floor = settings.pay_floor_per_hour
    with open_home(settings) as home:
        people = fairness.people(home.state, floor=floor)
        together = fairness.together(home.state)
        times = fairness.times(home.lake, home.state)
    rows = []
    for one in people:
        met = None if one.known is None else Share(one.right or 0, one.known)
        interval = met.interval() if met else None
        told = {name: value for name, value in asdict(one).items() if name != "right"}
        told |= {"known": one.known, "met": met and met.value}
        rows.append(told | {"met_low": interval and interval.low, "met_high": interval and interval.high})
    tasks = [
        {"kind": kind, "characters": length, **asdict(time), "floor": fairness.pay(times, floor, kind, chars)}
        for kind, length, time, chars in fairness.cells(times)
    ]
    if json:
        told = {"currency": settings.pay_currency, "pay_floor_per_hour": floor, "annotators": rows}
        output.emit_json({**told, "together": asdict(together), "tasks": tasks})
        return
    _show(rows, tasks, asdict(together), settings.pay_currency, floor)


def _show(
    rows: Sequence[dict[str, Any]],
    tasks: Sequence[dict[str, Any]],
    together: dict[str, Any],
    currency: str,
    floor: float | None,
) -> None:
    columns = ["annotator", "answers", "minutes", "today", "an hour", "earned", "known answers met"]
    shown = [
        [
            row["annotator"],
            row["answers"],
            round(row["minutes"]),
            f"{row['minutes_today']:.0f}/{row['daily_minutes']}",
            _pay(row),
            None if row["earned"] is None else f"{row['earned']:.2f}",
            _between(row),
        ]
        for row in rows
    ]
    output.table(f"Annotators, pay in {currency}", columns, shown)
    if together["skipped"] is None:
        output.stdout.print(f"How {together['people']} people work is not told: expected at least ten.")
    else:
        pace = "" if together["seconds"] is None else f", {together['seconds']:.0f} s a task"
        told = f"{together['people']} people, medians over them: {together['skipped']:.0%} skipped{pace}."
        output.stdout.print(told)
    times = [
        [
            one["kind"],
            one["characters"],
            one["seconds"],
            None if one["low"] is None else f"{one['low']:.0f} to {one['high']:.0f}",
            one["answers"],
            one["floor"],
        ]
        for one in tasks
    ]
    said = "none is set" if floor is None else f"{floor:g} {currency} an hour"
    output.table(
        f"What a task takes; the floor: {said}",
        ["kind", "characters", "seconds", "95 % interval", "answers", "pay at the floor"],
        times,
    )


def _pay(row: dict[str, Any]) -> str | None:
    if row["pay_per_hour"] is None:
        return None
    return f"{row['pay_per_hour']:g}{', below the floor' if row['below_floor'] else ''}"


def _between(row: dict[str, Any]) -> str:
    if row["known"] is None:
        return "fewer than ten"
    return f"{row['met_low']:.0%} to {row['met_high']:.0%} of {row['known']}"


# -- known answers ----------------------------------------------------------------------------------------------------


@gold.command("set")
def gold_set(
    task: Task,
    label: Annotated[str, typer.Argument(help="What is right: one of the labels that the task offers.")],
    reason: Why,
    shown: Annotated[bool, typer.Option("--shown", help="Known, but not hidden among the tasks to measure.")] = False,
    json: bool = output.Json,
) -> None:
    """Say what is right for a task, or say it anew: every version is kept, and the last one counts."""
    _put(task, label, reason, hidden=not shown, json=json)


@gold.command("withdraw")
def gold_withdraw(task: Task, reason: Why, json: bool = output.Json) -> None:
    """A task's answer is known no more; nobody is measured by it from now on, nor was."""
    _put(task, None, reason, hidden=False, json=json)


def _put(task: str, label: str | None, reason: str, *, hidden: bool, json: bool) -> None:
    from loop.label import gold as known
    from loop.label import tasks

    with open_home(config.load()) as home:
        row = tasks.one(home.lake, task)
        made = known.put(home.state, row, label=label, reason=reason, author=getpass.getuser(), hidden=hidden)
    if json:
        output.emit_json(asdict(made))
    else:
        output.stdout.print(f"Version {made.version} of {made.label_task_id}: {made.label or 'known no more'}.")


@gold.command("list")
def gold_list(json: bool = output.Json) -> None:
    """What is known now."""
    from loop.label import gold as known

    with open_home(config.load()) as home, home.state.engine.connect() as connection:
        found = [asdict(one) for one in known.latest(connection, home.state).values()]
    if json:
        output.emit_json({"gold": found})
    else:
        columns = ["label_task_id", "label", "hidden", "version", "reason", "author", "changed_at"]
        output.table("Known answers", columns, [[row[name] for name in columns] for row in found])


@gold.command("history")
def gold_history(task: Task, json: bool = output.Json) -> None:
    """Every version of a task's known answer, with author and reason."""
    from loop.label import gold as known
    from loop.label import tasks

    with open_home(config.load()) as home:
        row = tasks.one(home.lake, task)
        found = [asdict(one) for one in known.history(home.state, row["label_task_id"])]
    if json:
        output.emit_json({"label_task_id": row["label_task_id"], "history": found})
    else:
        columns = ["version", "label", "hidden", "reason", "author", "changed_at"]
        output.table(row["label_task_id"], columns, [[one[name] for name in columns] for one in found])


# -- appeals ----------------------------------------------------------------------------------------------------------


@appeals.command("list")
def appeals_list(
    all_: Annotated[bool, typer.Option("--all", help="The answered ones too.")] = False, json: bool = output.Json
) -> None:
    """What is contested and not answered yet, the oldest first."""
    from loop.label import gold as known

    with open_home(config.load()) as home:
        found = known.appeals(home.state, pending=not all_)
    if json:
        output.emit_json({"appeals": found})
    else:
        columns = ["appeal_id", "label_task_id", "argument", "opened_at", "verdict", "answer"]
        output.table("Appeals", columns, [[row[name] for name in columns] for row in found])


@appeals.command("decide")
def appeals_decide(
    appeal: Annotated[str, typer.Argument(help="Its id.")],
    answer: Annotated[str, typer.Option(help="What the person is told.")],
    uphold: Annotated[bool, typer.Option("--uphold/--dismiss", help="Whether the known answer was wrong.")],
    label: Annotated[
        str | None, typer.Option(help="What is right instead; upheld without one, the task is known no more.")
    ] = None,
    json: bool = output.Json,
) -> None:
    """Answer an appeal. Upheld, the known answer is corrected and everybody is measured by the new one."""
    from loop.label import gold as known
    from loop.label import tasks
    from loop.label.gold import Verdict

    with open_home(config.load()) as home:
        offered: Sequence[str] = ()
        about = [a["label_task_id"] for a in known.appeals(home.state) if a["appeal_id"] == appeal]
        if about and label is not None:
            row = tasks.one(home.lake, about[0])
            offered = tasks.labels_of(row["kind"], row["options"])
        closed = known.decide(
            home.state,
            appeal,
            Verdict.UPHELD if uphold else Verdict.DISMISSED,
            answer=answer,
            author=getpass.getuser(),
            label=label,
            offered=offered,
        )
    if json:
        output.emit_json(closed)
    else:
        output.stdout.print(f"Appeal {appeal} is {closed['verdict']}.")
