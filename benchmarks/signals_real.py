"""What signals say of real decisions: places, hasty decisions, and what the weights change.

    python benchmarks/signals_real.py coauthor ../shared/data/coauthor/argumentative.tar.xz
    python benchmarks/signals_real.py cups ../shared/data/cups_copilot/derived_events.jsonl.gz

Reads the source as `loop import` does, without a home: the row contract, signals over all days at once, and labels with
and without them. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.compute as pc

from loop.collect.events import decode, to_table
from loop.label.derive import derive
from loop.lake import conform
from loop.schema import INTERACTIONS
from loop.validate import contract, signal, signal_days, signal_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a module of loop.collect.sources with read(path)")
    parser.add_argument("path", type=Path)
    given = parser.parse_args()
    now = datetime.now(UTC)
    source = importlib.import_module(f"loop.collect.sources.{given.source}")
    records = [record for record in source.read(given.path).records if record.fault is None]
    rows = to_table([decode(record.raw) for record in records], key=b"benchmark" * 4, source=given.source, now=now)
    good, bad = contract.split(rows, now=now)
    good = conform(good.select(INTERACTIONS.arrow.names), INTERACTIONS).sort_by([("shown_at", "ascending")])
    for workflow in good["workflow"].unique().to_pylist():
        mine = good.filter(pc.equal(good["workflow"], workflow))
        started = time.perf_counter()
        found = signal.judge(mine)
        seconds = time.perf_counter() - started
        signals = signal_days.signals_of(mine, found)
        labels = derive(mine, held_out_share=0.0, signals=signals)
        told = signal_report.report(found, labels.preferences, derive(mine, held_out_share=0.0).preferences)
        result = {"source": given.source, "workflow": workflow, "rows": mine.num_rows, "set_aside": bad.num_rows}
        result |= {"seconds": round(seconds, 1), "report": told and told.told()}
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
