"""The model called in a bare loop, in a process and a session of its own as the gateway's generator is.

    python -m benchmarks.gateway.bare FOLDER

Each line of stdin says for how many seconds; the answer is a JSON object: tokens, wall and CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.gateway.asked import CANDIDATES, USERS, WORKFLOW, prompts
from loop.evaluate.answers import SERVED
from loop.models import Model
from loop.release.serve import ROWS, most_tokens


def main() -> None:
    model, asked = Model.load(sys.argv[1]), prompts()
    calls = 0
    for line in sys.stdin:
        tokens, wall, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() < wall + float(line):
            at = calls * USERS % len(asked)
            groups = model.sample(
                asked[at : at + USERS],
                n=CANDIDATES,
                max_new_tokens=most_tokens(WORKFLOW),
                temperature=SERVED.temperature,
                top_p=SERVED.top_p,
                seed=calls,
                batch_size=ROWS,
            )
            tokens += sum(sample.tokens for group in groups for sample in group)
            calls += 1
        told = {"tokens": tokens, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
