"""`loop run --days 5` on a fresh home: wall and CPU seconds by stage, and the memory of its whole process tree.

    python benchmarks/circle.py [--days 5] [--json]

Memory is the greatest sum of proportional set sizes (PSS, /proc/PID/smaps_rollup) over the command and its descendants,
sampled four times a second; it counts shared pages once.

On two quiet cores (2026-11-24): 147 s, 209 s CPU, 1.1 GB; overhead 25.4 s, 17 % of the wall clock and 12 % of the CPU:
30 jobs at 0.3 s each (event log, opening the home), imports 7.7 s, the first-time migrations 5 s, the interpreter's end
2.6 s. A tenth would take all three of: imports while the migrations run (5 s), one run of the data job a day for all
workflows in place of four (15 runs), and an end of the process that does not tear its libraries down (2 s).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

OVERHEAD = ("outside", "start-up", "services", "imports", "orchestration", "rest")
"""`services` is what is waited for: the database, first-time migrations. `outside`: the interpreter comes and goes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("loop")), "run", "--days", str(given.days), "--json"],
            env={**os.environ, "LOOP_HOME": f"{folder}/home"},
            stdout=subprocess.PIPE,
            text=True,
        )
        most = [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, most), daemon=True)
        watcher.start()
        out, _ = process.communicate()
        wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(process.returncode)
    seconds = json.loads(out)["seconds"]
    inside = seconds["total"]["wall"]
    seconds["outside"] = {"wall": round(wall - inside, 2), "cpu": None}
    overhead = sum(seconds[name]["wall"] for name in OVERHEAD)
    overhead_cpu = sum(seconds[name]["cpu"] or 0.0 for name in OVERHEAD)
    result = {
        "days": given.days,
        "wall": round(wall, 1),
        "cpu": seconds["total"]["cpu"],
        "peak_pss_mb": round(most[0] / 2**20),
        "seconds": seconds,
        "overhead_seconds": round(overhead, 1),
        "overhead_share": round(overhead / wall, 3),
        "overhead_cpu_share": round(overhead_cpu / seconds["total"]["cpu"], 3),
    }
    if given.json:
        print(json.dumps(result))
        return
    print(f"{given.days} days in {wall:.0f} s, {result['cpu']:.0f} s CPU, at most {result['peak_pss_mb']} MB")
    for name, s in seconds.items():
        cpu = "" if s["cpu"] is None else f"{s['cpu']:7.1f} s CPU"
        print(f"  {name:14} {s['wall']:7.1f} s wall {cpu:13} {s['wall'] / wall:6.1%}")
    print(
        f"{' + '.join(OVERHEAD)}: {overhead:.1f} s, {overhead / wall:.1%} of the wall clock (aim: at most a third), "
        f"{result['overhead_cpu_share']:.1%} of the CPU seconds"
    )


def _watch(pid: int, most: list[int]) -> None:
    while psutil.pid_exists(pid):
        try:
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        most[0] = max(most[0], sum(_pss(p.pid) for p in family))
        time.sleep(0.25)


def _pss(pid: int) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    main()
