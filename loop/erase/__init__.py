"""Erasure and retention: a person's data, or an interaction's, leaves every store, and what learned from it is marked.

`plan` says what there is, a module for each kind of store takes it out, `run` does so in order and goes on after a
kill, `search` looks whether anything is left. What was asked for and what came of it stands in the table `erasures`.
"""

from __future__ import annotations

from loop.erase.retention import retain
from loop.erase.run import Report, erase
from loop.erase.subject import Kind, Subject

__all__ = ["Kind", "Report", "Subject", "erase", "retain"]
