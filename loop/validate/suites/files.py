"""Suites as readable files: one JSON file a workflow in the format of Great Expectations, with a version and a digest.

The code makes them (`loop suites write`), a batch is judged by them, and a test holds the two in step. A change of a
rule is therefore seen as a change of a file, and every verdict names the version and digest of the suite that gave it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from loop.errors import BadInputError, LoopError
from loop.validate.suites.rules import Rule, Severity, Unit, made
from loop.workflows import BUILT_IN, WORKFLOWS

FOLDER: Final = Path(__file__).parent
"""Where the files stand, in the package."""
_AGAIN: Final = "make it anew with `loop suites write`"


@dataclass(frozen=True)
class Suite:
    """The rules that a batch of a workflow is judged by."""

    workflow: str
    version: int
    digest: str
    """SHA-256 over the expectations, 16 hexadecimal digits."""
    rules: tuple[Rule, ...]

    @property
    def name(self) -> str:
        return f"interactions_{self.workflow}"

    @property
    def title(self) -> str:
        return f"suite {self.name} v{self.version} ({self.digest})"


def path_of(workflow: str, folder: Path = FOLDER) -> Path:
    return folder / f"{workflow}.json"


@cache
def load(workflow: str) -> Suite:
    """The suite of a workflow as its file says it; that of a workflow that a package brings, as the code makes it.

    Raises:
        LoopError: the file is not there, or somebody changed it by hand.
    """
    return read(path_of(workflow)) if workflow in BUILT_IN else current(workflow)


def read(path: Path) -> Suite:
    """A suite from its file.

    Raises:
        LoopError: it is not there, is no suite, or was changed by hand.
    """
    try:
        told = json.loads(path.read_text())
        meta, expectations = told["meta"], told["expectations"]
        suite = Suite(meta["workflow"], meta["version"], meta["digest"], tuple(map(_rule, expectations)))
    except OSError as error:
        raise LoopError(f"{path}: expected a suite, got none ({error.strerror}); {_AGAIN}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise LoopError(f"{path}: expected a suite of Great Expectations: {error}; {_AGAIN}") from None
    if digest(expectations) != suite.digest:
        raise LoopError(f"{path}: expected what its digest {suite.digest} says, got other rules; {_AGAIN}")
    return suite


def current(workflow: str, version: int = 1) -> Suite:
    """The suite as the code makes it.

    Raises:
        BadInputError: there is no such workflow.
    """
    if workflow not in WORKFLOWS:
        raise BadInputError(f"WORKFLOW: expected one of {', '.join(WORKFLOWS)}, got {workflow!r}")
    rules = tuple(made(WORKFLOWS[workflow]))
    return Suite(workflow, version, digest([_expectation(rule) for rule in rules]), rules)


def write(folder: Path = FOLDER, *, check: bool = False) -> dict[str, str]:
    """Write the files of the built-in workflows where they differ from the code; what became of each.

    Args:
        folder: where they stand.
        check: only say what would become of them.
    """
    outcome = {}
    for workflow in BUILT_IN:
        path = path_of(workflow, folder)
        before: dict[str, Any] = {"version": 0, "digest": ""}
        if path.exists():
            before = json.loads(path.read_text())["meta"]
        suite = current(workflow, before["version"] + 1)
        text = _text(suite)
        if before["digest"] == suite.digest:
            suite = current(workflow, before["version"])
            text = _text(suite)
            outcome[workflow] = "unchanged" if path.read_text() == text else "differs" if check else "rewritten"
        else:
            outcome[workflow] = "differs" if check else f"version {suite.version}"
        if not check and outcome[workflow] != "unchanged":
            path.write_text(text)
    load.cache_clear()
    return outcome


def digest(expectations: list[dict[str, Any]]) -> str:
    told = json.dumps(expectations, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _text(suite: Suite) -> str:
    told = {
        "name": suite.name,
        "meta": {
            "workflow": suite.workflow,
            "version": suite.version,
            "digest": suite.digest,
            "made_by": "`loop suites write` from loop/schema and loop/workflows; rules are changed there",
        },
        "expectations": [_expectation(rule) for rule in suite.rules],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _expectation(rule: Rule) -> dict[str, Any]:
    told = {"rule": rule.name, "reason": rule.reason, "unit": rule.unit.value, "such": rule.such}
    return {
        "type": rule.expectation,
        "kwargs": dict(rule.kwargs),
        "severity": rule.severity.value,
        "meta": told | {"holds_only_with_history": rule.usual} | dict(rule.meta),
    }


def _rule(told: dict[str, Any]) -> Rule:
    meta = dict(told["meta"])
    return Rule(
        name=meta.pop("rule"),
        expectation=told["type"],
        kwargs=told["kwargs"],
        reason=meta.pop("reason"),
        severity=Severity(told["severity"]),
        unit=Unit(meta.pop("unit")),
        such=meta.pop("such"),
        usual=meta.pop("holds_only_with_history"),
        meta=meta,
    )
