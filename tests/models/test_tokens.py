"""Token ids as tensors, and the numbers by which tokens are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from loop.models.tokens import padded, uniforms


def test_the_random_numbers_of_a_seed_stay_what_they_were() -> None:
    """Whoever repeats an old run gets its answers: these were drawn before prompts could have seeds of their own."""
    draws = uniforms([[1, 2, 3], [4], [1, 2, 3]], [7, 7, 7], n=2, length=2)
    assert np.stack(draws) == pytest.approx(
        np.array(
            [
                [[0.19218711, 0.07617489], [0.67337793, 0.47087598]],
                [[0.13306344, 0.53118459], [0.77099121, 0.43461978]],
                [[0.04440633, 0.1007434], [0.9979605, 0.48619726]],
            ]
        ),
        abs=1e-8,
    )


def test_padding_is_exact() -> None:
    ids, labels, mask = padded([[1, 2, 3], [4]], [[5], [6, 7]], 0)
    assert ids.tolist() == [[1, 2, 3, 5], [4, 6, 7, 0]]
    assert labels.tolist() == [[-100, -100, -100, 5], [-100, 6, 7, -100]]
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
