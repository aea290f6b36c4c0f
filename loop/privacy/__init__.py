"""Personal data in texts: found by recognisers, replaced by typed placeholders before a text is kept or sent on.

And how many people are enough for something to be told of them together.
"""

from typing import Final

GROUP: Final = 10
"""Fewer people are no group: nothing is told of them, and a team of fewer is counted with the other small ones."""
