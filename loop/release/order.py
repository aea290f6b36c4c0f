"""The order in which candidates stand on the screen: how probable it was. Imports nothing, so that any process may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import factorial, prod


def order_propensity(texts: Sequence[str]) -> float:
    """Probability that texts in an order drawn evenly read as they do here: equal texts may change places.

    Example:
        >>> order_propensity(["a", "b", "a"])  # of six orders, two read so
        0.3333333333333333
    """
    return prod(factorial(count) for count in Counter(texts).values()) / factorial(len(texts))
