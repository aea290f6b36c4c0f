"""How fast are pretraining, SFT, DPO and sampling of the nano model, against a bare PyTorch loop over the same tokens?

    python benchmarks/training.py [--json] [--steps 60]

Each pass runs in a process of its own, so that its peak memory is its own. Shapes are those of a cycle of `loop run`:
prompts of about 20 tokens, answers of about 14, batches of 32 rows or 16 pairs. `bare` does what cannot be avoided and
nothing else: for training, forward, backward and AdamW (for DPO a forward pass of the reference too); for sampling, a
forward pass with a cache and a draw for each token, no stopping, no bookkeeping. `times_bare` is the ratio of CPU
seconds a token, which other work on the machine disturbs less than the clock; ours count from the opened to the written
model.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BATCH = 32
PASSES = ("pretraining", "sft", "dpo", "sampling")
SLOTS = {
    "goal": ("sales", "signups", "visits", "awareness", "renewals", "installs"),
    "tone": ("playful", "plain", "urgent", "warm", "bold", "formal"),
    "reader": ("students", "parents", "gamers", "commuters", "retirees", "freelancers"),
    "claim": ("tested", "reviewed", "awarded", "certified", "handmade", "local"),
}


def pairs(count: int) -> list[tuple[list[dict[str, str]], str]]:
    """Prompts and answers in which slots depend on words, deterministic."""
    import numpy as np

    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        said = {name: values[rng.integers(6)] for name, values in SLOTS.items()}
        asked = ", ".join(f"{name} {value}" for name, value in said.items())
        answer = ", ".join(f"{values[rng.integers(6)]} {name}" for name, values in SLOTS.items())
        made.append(([{"role": "user", "content": f"write a short ad number {rng.integers(99)}: {asked}"}], answer))
    return made


def tables(made: list[tuple[list[dict[str, str]], str]]) -> tuple[Any, Any]:
    """The same texts as demonstrations and as preferences."""
    import pyarrow as pa

    from loop import schema

    when = datetime(2026, 1, 5, tzinfo=UTC)
    common: dict[str, Any] = {"event_id": "e", "suggestion_id": "s", "day": when.date(), "workflow": "ads"}
    common |= {"employee": "p", "split": "train", "weight": 1.0, "received_at": when, "batch": "b", "kind": "choice"}
    common |= {"chosen_position": 0, "rejected_position": 1}
    rows = [
        {**common, "demonstration_id": f"{i}", "preference_id": f"{i}", "prompt": prompt, "answer": answer}
        | {"chosen": answer, "rejected": made[i - 1][1]}
        for i, (prompt, answer) in enumerate(made)
    ]
    return tuple(
        pa.Table.from_pylist([{name: row.get(name) for name in table.arrow.names} for row in rows], schema=table.arrow)
        for table in (schema.DEMONSTRATIONS, schema.PREFERENCES)
    )


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Wall and CPU seconds of some work that returns how many tokens it handled."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    return {
        "tokens": tokens,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }


def bare_training(model: Any, made: list[Any], steps: int, *, reference: bool) -> int:
    """Forward, backward and AdamW on `BATCH` rows a step."""
    import torch

    from loop.models import padded

    network = model.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    prompts = [p.ids for p in model.encode_prompts([prompt for prompt, _ in made])]
    answers = [model.encode_answer(answer).ids for _, answer in made]
    tokens = 0
    for step in range(steps):
        batch = [i % len(made) for i in range(step * BATCH, (step + 1) * BATCH)]
        ids, labels, mask = padded([prompts[i] for i in batch], [answers[i] for i in batch], model.pad)
        if reference:
            with torch.no_grad():
                network(input_ids=ids, attention_mask=mask, use_cache=False)
        network(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += int(mask.sum())
    return tokens


def bare_sampling(model: Any, prompts: list[Any], length: int) -> int:
    """`length` tokens for each prompt, in batches of 64 prompts that are about equally long."""
    import torch

    encoded = [p.ids for p in model.encode_prompts(prompts)]
    with torch.inference_mode():
        for start in range(0, len(encoded), 64):
            width = min(len(ids) for ids in encoded[start : start + 64])
            out = model.network(input_ids=torch.tensor([ids[-width:] for ids in encoded[start : start + 64]]))
            for _ in range(length):
                drawn = torch.multinomial(out.logits[:, -1].softmax(-1), 1)
                out = model.network(input_ids=drawn, past_key_values=out.past_key_values)
    return len(encoded) * length


def measured(name: str, base: Path, steps: int) -> dict[str, float]:
    """Run one pass and its bare counterpart here."""
    from loop.models import Model

    made = pairs(steps * BATCH)
    prompts = [prompt for prompt, _ in made[:512]]
    out = base.parent / name
    model = Model.load(base)

    def loop() -> int:
        if name == "pretraining":
            from loop.train import nano

            return nano.build(made, out, seed=0, steps=steps).tokens
        if name == "sampling":
            groups = model.sample(prompts, n=2, max_new_tokens=24, temperature=0.9, top_p=0.95, seed=0)
            return sum(sample.tokens for group in groups for sample in group)
        from loop.train import dpo, sft

        demonstrations, preferences = tables(made)
        if name == "sft":
            return sft.train(base, demonstrations, out, steps=steps, seed=0).tokens
        return dpo.train(base, preferences, out, steps=steps, seed=0).tokens

    if name in ("sft", "dpo"):  # their imports take seconds, once a process
        from loop.train import dpo, sft  # noqa: F401
    found = timed(loop)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bare = timed(
        lambda: (
            bare_sampling(model, prompts * 2, 15)
            if name == "sampling"
            else bare_training(model, made, steps, reference=name == "dpo")
        )
    )
    per_token = {kind: found[kind] / found["tokens"] / (bare[kind] / bare["tokens"]) for kind in ("cpu_s", "wall_s")}
    return {
        **({} if name == "sampling" else {"steps_per_s": round(steps / found["wall_s"], 2)}),
        "tokens_per_s": round(found["tokens"] / found["wall_s"]),
        "bare_tokens_per_s": round(bare["tokens"] / bare["wall_s"]),
        "times_bare": round(per_token["cpu_s"], 2),
        "wall_s": round(found["wall_s"], 2),
        "cpu_s": round(found["cpu_s"], 2),
        "peak_rss_mb": round(peak, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--steps", type=int, default=60, help="of each training pass")
    parser.add_argument("--one", nargs=2, metavar=("PASS", "BASE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], Path(given.one[1]), given.steps)))
        return
    from loop.train import nano

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        nano.build(pairs(6_400), base, seed=0, steps=200)
        found = {}
        for name in PASSES:
            command = [sys.executable, __file__, "--steps", str(given.steps), "--one", name, str(base)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[name] = json.loads(told.splitlines()[-1])
    if given.json:
        print(json.dumps(found, indent=2))
        return
    columns = list(found["sft"])
    print(f"{'':12}" + "".join(f"{name:>19}" for name in columns))
    for name, figures in found.items():
        print(f"{name:12}" + "".join(f"{figures.get(column, '-'):>19}" for column in columns))


if __name__ == "__main__":
    main()
