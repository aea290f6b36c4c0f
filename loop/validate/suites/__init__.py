"""The suite that a batch (one day of one workflow) must pass: made from the schema and the workflow, kept as files.

A rule here speaks of the batch as a whole or of every row of it; what a single row must satisfy to be let in at all is
`contract.py`. Great Expectations runs the suite; a failed critical rule holds the batch, any other is a finding.
"""

from loop.validate.suites.files import Suite, current, load, path_of, read, write
from loop.validate.suites.rules import Rule, Severity, Unit
from loop.validate.suites.running import HISTORY, IMPORTS, BatchReport, Finding, markdown, run

__all__ = [
    "HISTORY",
    "IMPORTS",
    "BatchReport",
    "Finding",
    "Rule",
    "Severity",
    "Suite",
    "Unit",
    "current",
    "load",
    "markdown",
    "path_of",
    "read",
    "run",
    "write",
]
