"""What a person said as an annotator goes before any table of the lake is rewritten.

Whoever teaches from answers pins what it reads until it has frozen it (loop/cycle/learning.py). So what was read before
the answers went is in a frozen set when the scrub of those tables returns, where the erasure looks afterwards; and who
reads later finds none.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from loop import schema
from loop.home import Home
from loop.label import outside

if TYPE_CHECKING:
    from loop.erase.plan import Plan

_TABLES: Final = sorted(
    (name for name, table in schema.STATE.items() if "annotator" in {column.name for column in table.columns}),
    key=lambda name: name != schema.ANNOTATORS.name,
)
"""What is a person's own who labels. First who may: an answer of theirs that is being stored is waited for."""


def leave(home: Home, plan: Plan) -> Counter[str]:
    """The person labels no more and has said nothing; how many rows of the state went.

    What others said of the person's decisions goes later, with these.
    """
    gone: Counter[str] = Counter()
    with home.state.transaction() as connection:
        outside.bury(connection, home.settings, plan.named.employees)
        for name in _TABLES:
            table = home.state.tables[name]
            mine = table.c.annotator.in_(sorted(plan.named.employees))
            gone[f"state/{name}"] = connection.execute(sa.delete(table).where(mine)).rowcount
    return gone
