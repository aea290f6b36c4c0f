"""What a person said as an annotator goes before any table of the lake is rewritten.

Whoever teaches from answers pins what it reads until it has frozen it (loop/cycle/freezing.py). So what was read before
the answers went is in a frozen set when the scrub of those tables returns, where the erasure looks afterwards; and who
reads later finds none. Labels that rested on those answers too are made anew from what others said.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from loop import schema
from loop.erase.subject import OWN_WORDS
from loop.home import Home
from loop.label import outside
from loop.label.aggregate import partition

if TYPE_CHECKING:
    from loop.erase.plan import Plan, Step

_TABLES: Final = sorted(
    (name for name, table in schema.STATE.items() if "annotator" in {column.name for column in table.columns}),
    key=lambda name: name != schema.ANNOTATORS.name,
)
"""What is a person's own who labels. First who may: an answer of theirs that is being stored is waited for."""


def found(connection: sa.Connection, said: sa.Table, mine: sa.ColumnElement[bool], plan: Plan) -> None:
    """Note what a person's annotations tell: of which days, and what the person wrote.

    A text that somebody else wrote word for word is theirs, and is left where it stands.
    """
    query = sa.select(said.c.day, said.c.workflow).where(mine).distinct()
    plan.answered.update((row.day, row.workflow) for row in connection.execute(query))
    wrote, others = (sa.select(said.c.content).where(which, said.c.content.is_not(None)) for which in (mine, ~mine))
    for content in connection.execute(wrote.except_(others)).scalars():
        plan.texts.update(text for text in _words(content) if len(text) >= OWN_WORDS)


def _words(content: str) -> Iterator[str]:
    """What somebody wrote, as against chose, in the content of an annotation; see `Kind` of loop/label/tasks.py."""
    told = json.loads(content)
    if isinstance(told, str):
        yield told
    elif isinstance(told, dict):
        yield from (told["attempt"], told["outcome"])


def leave(home: Home, plan: Plan, saved: Callable[[], None]) -> Counter[str]:
    """The person labels no more and has said nothing; how many rows of the state went.

    What others said of the person's decisions goes later, with these.

    Args:
        saved: keeps the plan, which has by then all that nothing tells once the answers are gone.
    """
    gone: Counter[str] = Counter()
    with home.state.transaction() as connection:
        outside.bury(connection, home.settings, plan.named.employees)
        for name in _TABLES:
            table = home.state.tables[name]
            mine = table.c.annotator.in_(sorted(plan.named.employees))
            if name == schema.ANNOTATIONS.name:
                found(connection, table, mine, plan)
                saved()
            gone[f"state/{name}"] = connection.execute(sa.delete(table).where(mine)).rowcount
    return gone


def relabel(home: Home, plan: Plan, step: Step) -> None:
    """Make the labels anew of the days that the person answered questions of; one that only the person gave goes."""
    for day, workflow in sorted(plan.answered):
        step(f"labels made anew: {day} {workflow}")
        with home.state.building(day, workflow):  # whoever labels by the answers of before has written by then
            labelled = (day, workflow) in home.lake.partitions(schema.TASK_LABELS.name)
        if labelled:
            partition.build(home.lake, home.state, day, workflow)
            plan.relabelled.add((day, workflow))
