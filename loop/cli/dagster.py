"""Running Dagster's jobs from the command line: in this process, on the home's own instance, seen in its UI."""

from __future__ import annotations

import contextlib
import importlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

from loop import services
from loop.cli.stopwatch import Stopwatch
from loop.config import Settings
from loop.errors import LoopError

if TYPE_CHECKING:
    import dagster as dg

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The event log has it all; the terminal shows progress."""
_STAGES = {
    "landing": "collect",
    "collect": "collect",
    "outcomes": "collect",
    "interactions_batch_suite": "validate",
    "weigh": "weigh",
    "label": "label",
    "rewards": "label",
    "label_tasks": "ask",
    "task_labels": "aggregate",
    "training_set": "freeze",
    "policy": "train",
    "comparisons": "compare",
    "evaluation": "evaluate",
    "evaluation_flaws": "evaluate",
    "release": "release",
}
"""What the stopwatch calls the work of a step; the rest of a job is `orchestration`."""
_HEAVY = (
    "loop.train.nano",
    "loop.train.sft",
    "loop.train.dpo",
    "loop.release.serve",
    "great_expectations.expectations",
    "mlflow.tracking",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What brings torch, transformers, TRL, Great Expectations and MLflow in: six seconds on a quiet machine."""


class Orchestrator:
    """Runs the jobs of `jobs.definitions` partition by partition."""

    def __init__(self, instance: dg.DagsterInstance, watch: Stopwatch) -> None:
        from jobs.definitions import defs

        self.instance, self.watch = instance, watch
        self._defs = defs
        self._jobs: dict[str, dg.JobDefinition] = {}

    def data(self, day: date, workflow: str) -> bool:
        """One day of one workflow through collection, validation and labelling; False if its batch was halted."""
        from assets.partitions import batch_key

        result = self._run("daily_data", str(batch_key(day, workflow)))
        if result.success:
            return True
        if any(not e.passed and e.blocking for e in result.get_asset_check_evaluations()):
            return False
        raise LoopError(_why("daily_data", f"{day} {workflow}", result))

    def aggregate(self, day: date, workflow: str) -> str:
        """What the answers to one day's questions say together; the run's id."""
        from assets.partitions import batch_key

        return self._must("aggregate_answers", batch_key(day, workflow))

    def drain(self) -> str:
        """Move what the gateway acknowledged into the lake; the run's id."""
        return self._must("drain", None)

    def learn(self, cycle: date) -> str:
        """Freeze, train and set side by side; the run's id."""
        return self._must("learn", cycle)

    def decide(self, cycle: date) -> str:
        """Evaluate and decide; the run's id."""
        return self._must("decide", cycle)

    def _must(self, job: str, partition: date | str | None) -> str:
        result = self._run(job, None if partition is None else str(partition))
        if not result.success:
            raise LoopError(_why(job, f"{partition or 'the spool'}", result))
        return str(result.run_id)

    def _run(self, job: str, partition: str | None) -> dg.ExecuteInProcessResult:
        with self.watch.stage("orchestration"):
            if job not in self._jobs:
                self._jobs[job] = self._defs.resolve_job_def(job)
            run_id = str(uuid.uuid4())
            self.instance.add_event_listener(run_id, self._time)
            return self._jobs[job].execute_in_process(
                instance=self.instance,
                partition_key=partition,
                run_config=_QUIET,
                raise_on_error=False,
                run_id=run_id,
                tags={".dagster/repository": "__repository__@loop"},  # so that the UI files the run under its job
            )

    def _time(self, entry: dg.EventLogEntry) -> None:
        """A step's work ends with its first output; storing that is Dagster's."""
        event = entry.dagster_event
        if event is not None and event.is_step_start:
            self.watch.switch(_STAGES[str(event.step_key)])
        elif event is not None and (event.is_successful_output or event.is_step_failure):
            self.watch.switch("orchestration")


@contextmanager
def orchestrator(settings: Settings, watch: Stopwatch | None = None, *, warm: bool = False) -> Iterator[Orchestrator]:
    """The home's Dagster instance, with the environment that Dagster and MLflow read.

    `warm` imports now what the stages would import when first used, so that it is timed apart from their work.
    """
    watch = watch or Stopwatch()
    with contextlib.ExitStack() as stack:
        with watch.stage("services"):
            urls = stack.enter_context(services.session(settings))
            services.prepare(settings, urls)
            os.environ.update(services.environment(settings, urls))
        with watch.stage("imports"):
            for name in ("dagster_postgres", "jobs.definitions", *(_HEAVY if warm else ())):
                importlib.import_module(name)
        with watch.stage("orchestration"):
            import dagster as dg

            dagster = Orchestrator(stack.enter_context(dg.DagsterInstance.get()), watch)
        yield dagster


def _why(job: str, partition: str, result: dg.ExecuteInProcessResult) -> str:
    """The innermost cause of the first failure: of a step, or of what came before any."""
    for event in result.all_events:
        error = getattr(event.event_specific_data, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            where = f" in {event.step_key}" if event.step_key else ""
            return f"{job} of {partition} failed{where}: {error.message.strip()} (run {result.run_id})"
    return f"{job} of {partition} failed (run {result.run_id})"
