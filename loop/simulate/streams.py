"""Random streams: each purpose draws from a stream of its own, named by its keys, so that none disturbs another."""

from __future__ import annotations

import hashlib

import numpy as np


def number(*keys: object) -> int:
    """128 bits that depend on every key and on nothing else (BLAKE2b of their texts)."""
    text = "\x1f".join(str(key) for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def stream(*keys: object) -> np.random.Generator:
    """A generator for the purpose that the keys name: `stream(seed, "requests", day)`."""
    return np.random.default_rng(number(*keys))
