"""Token ids as tensors: in batches, padded, with their positions; and a token drawn from logits.

What is drawn depends on a seed and a prompt alone, not on the batch or the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch


def padded(
    prompts: Sequence[list[int]], answers: Sequence[list[int]], pad: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, labels (-100 but on answers) and attention mask of prompts with answers, padded right: [rows, length]."""
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = np.full((len(prompts), width), pad, dtype=np.int64)
    labels = np.full(ids.shape, -100, dtype=np.int64)
    mask = np.zeros(ids.shape, dtype=np.int64)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        start, stop = len(prompt), len(prompt) + len(answer)
        ids[row, :start], ids[row, start:stop] = prompt, answer
        labels[row, start:stop] = answer
        mask[row, :stop] = 1
    return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(mask)


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches of like length, the longest first: little padding, and a lack of memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def left_padded(prompts: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids in prompts)
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions that start from 0 at the first real token, however much padding stands before it."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def uniforms(prompts: Sequence[list[int]], seeds: Sequence[int], *, n: int, length: int) -> list[np.ndarray]:
    """For each prompt, [n, length] numbers in [0, 1) that depend on nothing but its seed and the prompt's own past."""
    seen: dict[tuple[int, bytes], int] = {}
    draws = []
    for ids, seed in zip(prompts, seeds, strict=True):
        content = hashlib.blake2b(np.asarray(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
        before = seen.get((seed, content), 0)
        seen[seed, content] = before + n
        keys = (
            hashlib.blake2b(b"%d %d " % (seed, number) + content, digest_size=16).digest()
            for number in range(before, before + n)
        )
        draws.append(
            np.stack(
                [np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big"))).random(length) for key in keys]
            )
        )
    return draws


def draw(logits: torch.Tensor, uniform: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One token for each row by inversion of the distribution function, and its log-probability in nats (float64)."""
    logits = logits.double()
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        mass = ordered.softmax(-1)
        # The nucleus is the shortest head whose mass reaches top_p: a token is out if those before it reach it already.
        out = mass.cumsum(-1) - mass >= top_p
        logits = logits.masked_fill(torch.zeros_like(out).scatter(-1, order, out), -torch.inf)
    nats = logits.log_softmax(-1)
    cumulative = nats.exp().cumsum(-1)
    # Scaled by the last sum, which need not be exactly 1; `right` skips tokens of probability 0.
    target = (uniform[:, None] * cumulative[:, -1:]).clamp(max=torch.nextafter(cumulative[:, -1:], torch.zeros(())))
    chosen = torch.searchsorted(cumulative, target, right=True)
    return chosen[:, 0], nats.gather(-1, chosen)[:, 0]
