"""What the logs say of each decision on its own, in bulk: time taken, text to read, timing, edits, tokens.

One DuckDB pass and one pass over tokens; no Python per row. What these facts mean for anybody is said in `signal.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Flags = NDArray[np.bool_]

TOKENS: Final = 24
"""Most tokens of a text that are looked at: the first of an answer, the last of a prompt."""
CANDIDATES: Final = 5
"""Most candidates of a suggestion that are looked at."""
PROMPT_BUCKETS: Final = 4096
ANSWER_BUCKETS: Final = 256
"""Tokens are hashed into so many buckets; 0 is no token, and 1 stands in every prompt."""
SAME: Final = 0.05
"""Intervals and times that differ by less (on the log scale) are regular: of human ones about one in twenty is."""
_PIECE: Final = 100_000
"""Rows whose words are taken apart at a time."""
BURST: Final = 2.0
"""Seconds after one's last decision within which nobody has read the next suggestion."""


@dataclass(frozen=True)
class Facts:
    """One entry per interaction, in the order of the rows given. Arrays of n, or n by `CANDIDATES`."""

    employee: Ints
    """Index into `employees`."""
    employees: list[str]
    day: Ints
    """Days since 1970."""
    accepted: Flags
    modified: Flags
    rejected: Flags
    decided: Flags
    """Anything but ignored."""
    chosen: Ints
    """Position taken, -1 where none was."""
    shown: Ints
    """Number of candidates."""
    distinct: Flags
    """No two candidates are the same text."""
    seconds: Reals
    """From shown to decided; nan where not known."""
    chars: Reals
    """Characters of all candidates."""
    least_chars: Reals
    """Characters of the shortest candidate."""
    gap_known: Flags
    regular_gap: Flags
    """The interval to the person's previous suggestion is that between the two before it."""
    regular_time: Flags
    """As long as the person's decision before."""
    burst: Flags
    blank_edit: Flags
    """An edit of white space alone."""
    reasoned: Flags
    """The person's reasons, and those of the decision before, are not empty."""
    copied: Flags
    """They are the same."""
    streak: Ints
    """Accepts in a row up to and with this one."""
    logprob: Reals
    """Of the candidates, nan where unknown."""
    item: Ints
    """Same number: same prompt, and the same candidates in whatever order."""
    taken: Ints
    """Hash of the text that was taken, 0 where none was."""
    prompt: NDArray[np.int16]
    """Buckets of the prompt's tokens, n by `TOKENS`; 0 pads."""
    answers: NDArray[np.uint8]
    """Buckets of the candidates' tokens, n by `CANDIDATES` by `TOKENS`; each once, ascending, 0 pads at the front."""
    final: NDArray[np.uint8]
    """Buckets of an edit's tokens, n by `TOKENS`; all 0 where nothing was edited."""

    def __len__(self) -> int:
        return len(self.employee)

    def take(self, rows: Ints) -> Facts:
        """The facts of some interactions; `employees` stay as they are."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "employees"}
        return Facts(employees=self.employees, **arrays)


def facts(rows: pa.Table) -> Facts:
    """The facts of interactions, in their order.

    Args:
        rows: schema `interactions`, one workflow, any days.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 2})
    try:
        connection.execute("SET TimeZone = 'UTC'")
        numbered = rows.append_column("row_number", pa.array(np.arange(rows.num_rows), pa.int64()))
        connection.register("rows", numbered)
        found = connection.sql(_FACTS).to_arrow_table()
        parts = []
        for start in range(0, max(1, rows.num_rows), _PIECE):
            connection.register("piece", numbered.slice(start, _PIECE))
            parts.append(_tokens(connection.sql(_TOKENS).to_arrow_table()))
    finally:
        connection.close()
    prompt, answers, final = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert found.num_rows == len(prompt) == rows.num_rows, "an interaction was lost"
    codes = rows["employee"].combine_chunks().dictionary_encode()
    flag = {name: _numbers(found, name).astype(bool) for name in _FLAGS}
    return Facts(
        employee=np.asarray(codes.indices, np.int64),
        employees=codes.dictionary.to_pylist(),
        **flag,
        **{name: _numbers(found, name).astype(np.int64) for name in ("day", "chosen", "shown", "streak")},
        **{name: _numbers(found, name) for name in ("seconds", "chars", "least_chars")},
        item=_hashes(found, "item"),
        taken=_hashes(found, "taken"),
        logprob=_padded(found["logprobs"], CANDIDATES, np.float64, np.nan),
        prompt=prompt,
        answers=answers,
        final=final,
    )


def _tokens(found: pa.Table) -> tuple[NDArray[Any], ...]:
    """Buckets of prompt, answers and edited text as matrices."""
    return (
        _padded(found["prompt"], TOKENS, np.int16, 0),
        np.stack([_as_sets(found[f"answer{i}"]) for i in range(CANDIDATES)], axis=1),
        _as_sets(found["final"]),
    )


def _numbers(table: pa.Table, name: str) -> Any:
    return table[name].to_numpy()


def _hashes(table: pa.Table, name: str) -> Ints:
    return np.asarray(table[name].to_numpy()).view(np.int64)


def _padded(column: pa.ChunkedArray, width: int, kind: Any, fill: float) -> NDArray[Any]:
    """Lists as the rows of a matrix."""
    lists = column.combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    lengths = np.minimum(np.asarray(lists.value_lengths().fill_null(0)), width)
    matrix = np.full((len(lists), width), fill, kind)
    places = np.arange(width) < lengths[:, None]
    starts = np.asarray(lists.offsets)[:-1]
    at = (starts[:, None] + np.arange(width))[places]
    matrix[places] = lists.values.to_numpy(zero_copy_only=False)[at]
    return matrix


def _as_sets(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Each bucket once a row: ascending, what comes again made 0."""
    matrix = np.sort(_padded(column, TOKENS, np.uint8, 0), axis=1)
    matrix[:, 1:][matrix[:, 1:] == matrix[:, :-1]] = 0
    return np.asarray(np.sort(matrix, axis=1), np.uint8)


_FLAGS: Final = (
    "distinct",
    "accepted",
    "modified",
    "rejected",
    "decided",
    "gap_known",
    "regular_gap",
    "regular_time",
    "burst",
    "blank_edit",
    "reasoned",
    "copied",
)

_FACTS: Final = rf"""
WITH plain AS (
    SELECT row_number, employee, shown_at, event_id, decision, epoch_us(shown_at) / 1e6 AS asked,
        dwell_ms / 1000.0 AS seconds, date_diff('day', DATE '1970-01-01', day) AS day, chosen, len(candidates) AS shown,
        CASE WHEN len(reasons) > 0 THEN hash(reasons) END AS said,
        list_transform(candidates, lambda c: strlen(c.text)) AS lengths,
        list_unique(list_transform(candidates, lambda c: c.text)) = len(candidates) AS distinct_texts,
        list_transform(candidates, lambda c: coalesce(c.logprob, 'nan'::DOUBLE)) AS logprobs,
        hash(prompt) + list_sum(list_transform(candidates, lambda c: hash(c.text) // 8))::UHUGEINT AS item,
        CASE WHEN chosen >= 0 THEN list_filter(candidates, lambda c: c.position = chosen)[1].text END AS taken,
        CASE WHEN decision = 'modify' THEN final_text END AS edited
    FROM rows
), short AS (
    SELECT * EXCLUDE (taken, edited, lengths, item),
        coalesce(list_sum(lengths), 0)::DOUBLE AS chars, coalesce(list_min(lengths), 0)::DOUBLE AS least_chars,
        hash(item) AS item, CASE WHEN taken IS NULL THEN 0::UBIGINT ELSE hash(taken) END AS taken,
        CASE WHEN edited IS NULL THEN false
            WHEN edited = taken THEN true
            WHEN abs(strlen(edited) - strlen(taken)) > 64 THEN false
            ELSE regexp_replace(edited, '\s+', '', 'g') = regexp_replace(taken, '\s+', '', 'g') END AS blank_edit
    FROM plain
), before AS (
    SELECT *,
        asked - lag(asked) OVER mine AS gap,
        lag(seconds) OVER mine AS last_seconds,
        asked + seconds - max(asked + seconds) OVER (mine ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS since,
        lag(said) OVER mine AS last_said,
        sum((decision <> 'accept')::INT) OVER (mine ROWS UNBOUNDED PRECEDING) AS run
    FROM short
    WINDOW mine AS (PARTITION BY employee ORDER BY shown_at, event_id)
), again AS (
    SELECT *, lag(gap) OVER (PARTITION BY employee ORDER BY shown_at, event_id) AS last_gap,
        count(*) FILTER (decision = 'accept') OVER (
            PARTITION BY employee, run ORDER BY shown_at, event_id ROWS UNBOUNDED PRECEDING
        ) AS streak
    FROM before
)
SELECT day, decision = 'accept' AS accepted, decision = 'modify' AS modified, decision = 'reject' AS rejected,
    decision <> 'ignore' AS decided, coalesce(distinct_texts, true) AS "distinct", shown,
    coalesce(chosen, -1) AS chosen, coalesce(seconds, 'nan'::DOUBLE) AS seconds, chars, least_chars,
    coalesce(gap > 0 AND last_gap > 0, false) AS gap_known,
    coalesce(gap > 0 AND last_gap > 0 AND abs(ln(gap / last_gap)) < {SAME}, false) AS regular_gap,
    coalesce(seconds > 0 AND last_seconds > 0 AND abs(ln(seconds / last_seconds)) < {SAME}, false) AS regular_time,
    coalesce(since >= 0 AND since < {BURST}, false) AS burst, coalesce(blank_edit, false) AS blank_edit,
    said IS NOT NULL AND last_said IS NOT NULL AS reasoned, coalesce(said = last_said, false) AS copied,
    CASE WHEN decision = 'accept' THEN streak ELSE 0 END AS streak, logprobs, item, taken
FROM again ORDER BY row_number
"""  # noqa: S608


_BREAKS: Final = '.,;:!?()[]"\n\t'
"""What separates words beside spaces."""


def _words(text: str, *, last: bool, buckets: int, least: int) -> str:
    """SQL: buckets of the words of a text, its last ones or its first."""
    some = f"right({text}, 400)" if last else f"left({text}, 400)"
    some = f"CASE WHEN strlen({text}) > 400 THEN {some} ELSE {text} END"
    plain = f"translate(lower({some}), '{_BREAKS}', repeat(' ', {len(_BREAKS)}))"
    words = f"list_filter(string_split({plain}, ' '), lambda w: w <> '')"
    kept = f"list_slice({words}, {-TOKENS + 1}, -1)" if last else f"list_slice({words}, 1, {TOKENS})"
    return f"list_transform({kept}, lambda w: ({least} + hash(w) % {buckets - least})::INT)"


_TOKENS: Final = f"""
SELECT list_prepend(1, coalesce({_words("prompt[-1].content", last=True, buckets=PROMPT_BUCKETS, least=2)}, [])) AS prompt,
    {", ".join(_words(f"candidates[{i + 1}].text", last=False, buckets=ANSWER_BUCKETS, least=1) + f" AS answer{i}" for i in range(CANDIDATES))},
    CASE WHEN decision = 'modify' THEN {_words("final_text", last=False, buckets=ANSWER_BUCKETS, least=1)} END AS final
FROM piece ORDER BY row_number
"""  # noqa: S608, E501
