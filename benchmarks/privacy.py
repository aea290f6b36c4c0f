"""How well personal data is found and how fast whole columns are masked.

    python benchmarks/privacy.py                          # the table of docs/privacy.md
    python benchmarks/privacy.py --rows 1000000           # the speed too: about two minutes on two cores
    python benchmarks/privacy.py --recognisers full       # with Presidio's recognisers, and names if a model is there

Found is a gold span of which a span of the right type covers at least half; a span is right if it covers at least half
of a gold span of its type. Half of the large set was never looked at while the patterns were written: its rows of odd
number. The speed is that of `loop.privacy.bulk.mask` over interactions of 1.1 kB (prompt, two candidates, final text),
in tables of 50,000 as an import has them; the plain scan beside it is DuckDB's sum of the texts' lengths.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import time
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa

from loop import schema
from loop.privacy import bulk, recognise

DATA = Path(__file__).parents[2] / "shared" / "data" / "presidio_synth"
THEIRS = {"URL": "DOMAIN_NAME"}
"""Our types that the data set calls otherwise."""
CHUNK = 50_000


def rows_of(part: str) -> list[dict]:
    """The texts with gold spans: `small`, or the rows of `large` that were looked at (even) or not (odd)."""
    name = "small" if part == "small" else "large"
    rows = json.loads(gzip.decompress((DATA / f"generated_{name}.json.gz").read_bytes()))
    return rows if part == "small" else rows[part == "unseen" :: 2]


def quality(rows: list[dict], find: recognise.Find) -> dict:
    """By type: gold spans, how many were found, how many spans there are, how many are right; and the share of
    characters outside all gold spans that were masked."""
    gold, hit, made, right = Counter(), Counter(), Counter(), Counter()
    outside = masked_outside = 0
    for row in rows:
        text = row["full_text"]
        theirs = [(s["start_position"], s["end_position"], s["entity_type"]) for s in row["spans"]]
        ours = [(s.start, s.end, THEIRS.get(s.type, s.type)) for s in find(text)]
        covers = {(o, g) for o in ours for g in theirs if o[2] == g[2] and 2 * _common(o, g) >= g[1] - g[0]}
        gold.update(g[2] for g in theirs)
        hit.update(g[2] for g in theirs if any(pair[1] == g for pair in covers))
        made.update(o[2] for o in ours)
        right.update(o[2] for o in ours if any(pair[0] == o for pair in covers))
        inside = {at for start, end, _ in theirs for at in range(start, end)}
        outside += len(text) - len(inside)
        masked_outside += sum(at not in inside for start, end, _ in ours for at in range(start, end))
    return {
        "types": {t: (gold[t], hit[t], made[t], right[t]) for t in sorted(gold | made)},
        "outside": masked_outside / outside,
    }


def _common(one: tuple, other: tuple) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


WORDS = (
    *("the", "campaign", "customers", "budget", "please", "review", "launch", "team", "draft", "target", "audience"),
    *(
        "summer",
        "offer",
        "quality",
        "price",
        "reply",
        "design",
        "message",
        "brand",
        "newsletter",
        "café",
        "first-class",
    ),
)
NUMBERS = ("2024", "10%", "€20", "Q3", "v2.1", "24/7", "3-4", "2026-01-05", "12:30", "1,500")


def interactions(count: int, share: float, seed: int) -> pa.Table:
    """Interactions of 1.1 kB, one word in thirty a number, of which a share holds an address and a telephone number."""
    draw = random.Random(seed)

    def text(words: int, personal: str) -> str:
        return " ".join([*(draw.choice(NUMBERS if draw.random() < 0.03 else WORDS) for _ in range(words)), personal])

    rows = []
    for _ in range(count):
        personal = ""
        if draw.random() < share:
            personal = (
                f"call {draw.randrange(200, 999)}-555-{draw.randrange(9999):04} or u{draw.randrange(10**6)}@x.org"
            )
        texts = [text(38, personal), text(38, "")]
        taken = draw.random() < 0.5
        rows.append(
            {
                "prompt": [{"role": "user", "content": text(40, personal)}],
                "candidates": [{"position": i, "text": t, "logprob": None} for i, t in enumerate(texts)],
                "decision": "accept" if taken else "modify",
                "chosen": 0,
                "final_text": texts[0] if taken else text(38, personal),
            }
        )
    arrow = schema.INTERACTIONS.arrow
    return pa.Table.from_pylist(rows, schema=pa.schema([arrow.field(name) for name in rows[0]]))


def speed(rows: int, share: float, find: recognise.Find) -> dict:
    """Seconds of masking and of a plain scan; each table is made anew, so that no text is seen twice by chance."""
    masking = working = scanning = 0.0
    done = size = spans = 0
    query = (
        "SELECT sum(length(final_text)), sum(list_sum(list_transform(candidates, lambda c: length(c.text)))), "
        "sum(list_sum(list_transform(prompt, lambda m: length(m.content)))) FROM rows_"
    )
    while done < rows:
        rows_ = interactions(min(CHUNK, rows - done), share, done)
        start, began = time.perf_counter(), time.process_time()
        spans += sum(bulk.mask(rows_, find).total().values())
        masking += time.perf_counter() - start
        working += time.process_time() - began
        start = time.perf_counter()
        duckdb.sql(query).fetchall()
        scanning += time.perf_counter() - start
        done, size = done + rows_.num_rows, size + rows_.nbytes
    return {
        "rows": done,
        "bytes_per_row": size / done,
        "seconds": masking,
        "cpu_seconds": working,
        "rows_per_second": done / masking,
        "spans": spans,
        "scan_seconds": scanning,
        "ratio": masking / scanning,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=0, help="interactions to mask; 0: do not time it")
    parser.add_argument("--share", type=float, default=0.05, help="share of interactions that hold personal data")
    parser.add_argument("--recognisers", choices=("patterns", "full"), default="patterns")
    given = parser.parse_args()
    find = recognise.recogniser(given.recognisers)
    assert find is not None
    for part in ("small", "seen", "unseen"):
        told = quality(rows_of(part), find)
        print(f"\n{part}: {told['outside']:.2%} of the characters outside gold spans masked")
        for type_, (gold, hit, made, right) in told["types"].items():
            recall = f"{hit / gold:.3f}" if gold else "    -"
            print(f"  {type_:26} {gold:5} gold, recall {recall}, precision {f'{right / made:.3f}' if made else '-'}")
    if given.rows:
        print(json.dumps(speed(given.rows, given.share, find)))


if __name__ == "__main__":
    main()
