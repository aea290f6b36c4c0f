"""A language model as the loop uses it: loading, the text format, sampling and scoring.

Whatever reads or writes tokens goes through `Model`, so that training, serving and evaluation see the same ids. What
becomes of ids as tensors is `tokens`. How weights are made belongs to loop/train; which version is served belongs to
loop/release.
"""

from __future__ import annotations

import os

# Two OpenMP threads that spin at a barrier starve each other as soon as a third process wants one of two cores: a
# training step measured up to 30 times slower. Waiting asleep costs some speed on an idle machine. Read once, when
# torch starts, hence before its import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from loop.models.model import ANSWER, CONTEXT, NANO, Encoded, Messages, Model, Progress, Sample, threads
from loop.models.tokens import padded
from loop.weights import weights_digest

__all__ = [
    "ANSWER",
    "CONTEXT",
    "NANO",
    "Encoded",
    "Messages",
    "Model",
    "Progress",
    "Sample",
    "padded",
    "threads",
    "weights_digest",
]
