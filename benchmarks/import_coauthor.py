"""How fast and how large is the import of the CoAuthor archive (1,069,788 events, 471 MB unpacked)?

    python benchmarks/import_coauthor.py [ARCHIVE]

Each pass runs in a process of its own, so that its peak memory is its own. `bare` unpacks the archive and decodes every
line, which no importer can avoid; `replay` also replays the sessions; `import` does all of `loop import` on a fresh
home whose database is running; `again` imports the same once more. Prints one JSON object.
"""

from __future__ import annotations

import json
import lzma
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ARCHIVE = Path(__file__).parents[1] / ".." / "shared" / "data" / "coauthor" / "argumentative.tar.xz"
PASSES = ("bare", "replay", "import", "again")


def bare(archive: Path) -> int:
    """Unpack and decode every line; how many there are."""
    import msgspec

    decoder = msgspec.json.Decoder()
    lines = 0
    with lzma.open(archive) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as members:
        for member in members:
            if member.isfile():
                content = members.extractfile(member)
                assert content is not None
                for line in content.read().splitlines():
                    decoder.decode(line)
                    lines += 1
    return lines


def replay(archive: Path) -> int:
    """Read the openings; how many there are."""
    from loop.collect.sources import coauthor

    return sum(1 for _ in coauthor.read(archive).records)


def whole(archive: Path) -> int:
    """Import into the home of the environment; how many records were read."""
    from loop import config, services
    from loop.collect import sources
    from loop.lake import Lake
    from loop.state import State
    from loop.validate import contract

    settings = config.load()
    with services.session(settings) as urls:
        state = State.open(urls.loop)
        done = sources.read("coauthor", archive, settings, Lake(settings.lake), state, contract=contract.split)
        state.close()
    return done.read


def measured(name: str, archive: Path) -> dict[str, float]:
    """Run one pass here and measure it."""
    wall, cpu = time.perf_counter(), time.process_time()
    rows = {"bare": bare, "replay": replay}.get(name, whole)(archive)
    return {
        "rows": rows,
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
        return
    archive = Path(sys.argv[1]) if len(sys.argv) > 1 else ARCHIVE
    if not archive.exists():
        sys.exit(f"{archive}: no such file; give the path of argumentative.tar.xz")
    from loop import config, services

    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOOP_HOME"] = folder
        with services.session(config.load()):
            found = {}
            for name in PASSES:
                told = subprocess.run([sys.executable, __file__, name, archive], check=True, capture_output=True)
                found[name] = json.loads(told.stdout)
    found["import"]["cpu_to_bare"] = round(found["import"]["cpu_s"] / found["bare"]["cpu_s"], 2)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
