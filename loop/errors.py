"""The errors that Loop raises for things outside it; our own invariants use `assert`.

Every message says what was expected, what came and what to do.
"""

from __future__ import annotations


class LoopError(Exception):
    """Something failed that is nobody's typing mistake: a service, a run, a file. The command line exits with 1."""


class BadInputError(LoopError, ValueError):
    """The caller gave something that cannot be used. The command line exits with 2."""
