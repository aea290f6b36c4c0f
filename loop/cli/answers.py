"""`loop answers`: people's answers into soft labels, how far they agree, and what a judge is worth beside them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from loop import config
from loop.cli import output
from loop.cli.batches import workflow_of
from loop.errors import BadInputError
from loop.home import open_home
from loop.label.aggregate.agreement import Level
from loop.label.aggregate.public import Collection, Format, load
from loop.label.aggregate.stacking import SURE, Method
from loop.label.tasks import CHOSEN, Kind, Origin

answers = typer.Typer(
    help="People's answers: taken over, aggregated, measured (docs/aggregation.md).", no_args_is_help=True
)
_File = Annotated[Path, typer.Argument(help="CSV or JSON lines: worker, task, label[, gold][, seconds].")]
_Format = Annotated[Format, typer.Option("--format", help="answers, pandalm (testset-v1.json) or davidson.")]
_Workflow = Annotated[str, typer.Option(help="The workflow.")]
_Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day; today by default.")]
_Input = Annotated[Path | None, typer.Option("--input", help="A file of answers, instead of a day of the home.")]
_SHOWN = 20
"""Rows of a list that people are shown; --json has all."""


@answers.command("import")
def import_(  # noqa: PLR0913, PLR0917 - each is an option of the command
    file: _File,
    form: _Format = Format.ANSWERS,
    workflow: _Workflow = "moderation",
    day: _Day = None,
    kind: Annotated[
        Kind, typer.Option(help="preference, rating or category, of a file that does not say.")
    ] = Kind.CATEGORY,
    options: Annotated[
        str | None, typer.Option(help="Labels that may be answered, by comma; those of the file.")
    ] = None,
    answered_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When answers without a time were given (ISO 8601, UTC if no zone); now."),
    ] = None,
    json: bool = output.Json,
) -> None:
    """Take answers over as annotations; tasks are made where there are none. The same again changes nothing."""
    from loop.label.aggregate import importing

    workflow_of(workflow)
    if kind not in CHOSEN:
        raise BadInputError(f"--kind: expected one of {', '.join(CHOSEN)}, whose answers are labels, got {kind}")
    at = None if answered_at is None else importing.moment(answered_at)
    collection = load(file, form)
    settings = config.load()
    with open_home(settings) as home:
        done = importing.store(
            settings,
            home.lake,
            home.state,
            collection,
            day=(day or datetime.now(UTC)).date(),
            workflow=workflow,
            kind=kind,
            options=tuple(option.strip() for option in options.split(",")) if options else (),
            origin=Origin.IMPORT if form is Format.ANSWERS else Origin.BENCHMARK,
            answered_at=at,
            author=getuser(),
        )
    told = {
        **{name: getattr(done, name) for name in ("rows", "new", "repeated", "changed")},
        "refused": done.refused.total(),
        "tasks": {"new": done.tasks.new, "known": done.tasks.known},
        "annotators": done.annotators,
        "gold": done.gold,
        "reasons": dict(done.refused),
        "uncounted": dict(done.uncounted),
        "problems": [{"line": line, "reason": reason} for line, reason in done.problems],
    }
    if json:
        output.emit_json(told)
        return
    output.table(f"{form} {file.name}", ["", ""], [[k, v] for k, v in told.items() if not isinstance(v, dict | list)])
    _broken(done.problems)


@answers.command("aggregate")
def aggregate(  # noqa: PLR0913, PLR0917 - each is an option of the command
    input_: _Input = None,
    output_: Annotated[Path | None, typer.Option("--output", help="Parquet: a row a task.")] = None,
    form: _Format = Format.ANSWERS,
    method: Annotated[Method, typer.Option(help="How labels come of answers.")] = Method.STACKED,
    sure: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least confidence that does not abstain.")] = SURE,
    workflow: Annotated[str | None, typer.Option(help="Without --input: of the home.")] = None,
    day: _Day = None,
    json: bool = output.Json,
) -> None:
    """Soft labels, of a file or of a day of the home, where `task_labels` is written."""
    if input_ is None:
        if workflow is None or output_ is not None:
            raise BadInputError("expected --input FILE with --output FILE, or --workflow of the home with none of both")
        _aggregate_home(workflow, day, json=json)
        return
    if output_ is None:
        raise BadInputError("expected --output FILE.parquet beside --input, got none")
    _aggregate_file(load(input_, form), output_, method, sure, json=json)


def _aggregate_file(collection: Collection, target: Path, method: Method, sure: float, *, json: bool) -> None:
    import numpy as np

    from loop.label.aggregate import agreement, reading
    from loop.label.aggregate import stacking as estimating

    found, sorted_, gold = reading.answers_of(collection.rows)
    told = estimating.aggregate(found, method, sure=sure)
    _write(told, target)
    alpha = agreement.alpha(found)
    result: dict[str, Any] = {
        "answers": len(collection.rows.worker),
        "duplicates": sorted_.duplicates,
        "tasks": len(found.tasks),
        "workers": len(found.workers),
        "method": told.method,
        "alpha": alpha and round(alpha.value, 6),
    }
    if (known := gold >= 0).any():
        result["accuracy"] = float(np.mean(told.label[known] == gold[known]))
    _warn(collection, sorted_, told)
    if json:
        output.emit_json(result)
    else:
        result["waiting for adjudication"] = int(told.abstain.sum())
        output.table(target.name, ["", ""], [[k, v] for k, v in result.items()])


def _write(told: Any, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from loop.label.aggregate.partition import probabilities

    names = pa.array(list(told.answers.labels))
    rows = pa.table(
        {
            "task": pa.array(list(told.answers.tasks), pa.string()),
            "label": names.take(pa.array(told.label)),
            "confidence": told.confidence,
            "abstain": told.abstain,
            "probabilities": probabilities(told),
            "answers": pa.array(told.answers.votes.sum(1).astype(int)),
        }
    )
    beside = target.with_name(f".{target.name}.part")
    try:
        pq.write_table(rows, beside)
        beside.replace(target)
    except OSError as error:
        raise BadInputError(f"{target}: expected a file that can be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


def _warn(collection: Collection, sorted_: Any, told: Any) -> None:
    """On stderr: what the result does not say, and what of the file is in none."""
    _broken([(problem.line, problem.reason) for problem in collection.rows.problems])
    say = output.stderr.print
    if sorted_.contradicted:
        say(
            f"{sorted_.contradicted} answers contradict the same worker's earlier one to the same task: the last counts"
        )
    if two := collection.rows.golds()[1]:
        say(f"{two} tasks have two known answers: they count as not known")
    if len(told.answers.labels) < 2:
        say(f"one label alone ({told.answers.labels[0]}): nothing can be told of it, every task abstains")
    if alone := int((told.answers.votes.sum(1) < 2).sum()):
        say(f"{alone} tasks have one answer: they abstain")


def _broken(problems: list[tuple[int, str]]) -> None:
    for line, reason in problems[:_SHOWN]:
        output.stderr.print(f"line {line}: {reason}", markup=False)
    if len(problems) > _SHOWN:
        output.stderr.print(f"and {len(problems) - _SHOWN} more rows that are no answers")


def _aggregate_home(workflow: str, day: datetime | None, *, json: bool) -> None:
    from loop.label.aggregate import partition

    workflow_of(workflow)
    on = (day or datetime.now(UTC)).date()
    with open_home(config.load()) as home:
        made = partition.build(home.lake, home.state, on, workflow)
        waiting = partition.to_adjudicate(home.lake, on, workflow).select(["label_task_id", "label", "confidence"])
    told = {**msgspec.to_builtins(made), "to_adjudicate": waiting.to_pylist()}
    if json:
        output.emit_json(told)
        return
    output.table(f"{workflow} on {on}", ["", ""], [[k, v] for k, v in told.items() if isinstance(v, int)])
    columns = ["label_task_id", "label", "confidence"]
    output.table(
        "Waiting for adjudication", columns, [[row[c] for c in columns] for row in waiting.to_pylist()[:_SHOWN]]
    )


@answers.command("adjudicate")
def adjudicate(
    task: Annotated[str, typer.Argument(help="Id of the task, or how it begins.")],
    label: Annotated[str, typer.Argument(help="What is right: one of the labels that the task offers.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    json: bool = output.Json,
) -> None:
    """Decide on a task that people's answers leave unsure; the labels of its day are made anew."""
    from loop.label import adjudication

    with open_home(config.load()) as home:
        told = {"label_task_id": task, "label": label, "reason": reason, "author": getuser()}
        known = adjudication.decide(home.settings, home.lake, home.state, **told)
    if json:
        output.emit_json({"label_task_id": known, "label": label})
    else:
        output.stdout.print(f"{known} is {label}")


@answers.command("agreement")
def agreement_(  # noqa: PLR0913, PLR0917 - each is an option of the command
    input_: _Input = None,
    form: _Format = Format.ANSWERS,
    workflow: Annotated[str | None, typer.Option(help="Without --input: of the home, the four weeks to --day.")] = None,
    day: _Day = None,
    level: Annotated[Level, typer.Option(help="Of measurement, for alpha.")] = Level.NOMINAL,
    slice_: Annotated[str | None, typer.Option("--slice", help="A column of the file by which bias is told.")] = None,
    options: Annotated[str | None, typer.Option(help="Labels of the file in their order, by comma.")] = None,
    json: bool = output.Json,
) -> None:
    """How far people agree, and what stands out. In the order of pseudonyms, with intervals: nobody is ranked."""
    from loop.label.aggregate import measured

    settings = config.load()
    if input_ is not None:
        order = [option.strip() for option in options.split(",")] if options else ()
        told = [measured.of_file(load(input_, form), settings, level=level, slices=slice_, options=order)]
    elif workflow is not None:
        workflow_of(workflow)
        with open_home(settings) as home:
            told = measured.of_home(home.lake, home.state, (day or datetime.now(UTC)).date(), workflow, level=level)
    else:
        raise BadInputError("expected --input FILE, or --workflow of the home")
    if json:
        output.emit_json({"questions": told})
        return
    for one in told:
        _show_agreement(one)


def _show_agreement(told: dict[str, Any]) -> None:
    output.table(told["question"], ["", "", "low", "high", "tasks"], [["alpha", *_figures(told["alpha"])]])
    columns = ["annotator", "accuracy on gold", "low", "high", "answers"]
    rows = [[name, *_figures(one["gold"])] for name, one in told["annotators"].items() if one["gold"]]
    if rows:
        output.table("By pseudonym, which is no order of merit", columns, rows[:_SHOWN])
    output.table(
        "Pairs",
        ["first", "second", "kappa", "low", "high", "tasks"],
        [[p["first"], p["second"], *_figures(p["beyond_chance"])] for p in told["pairs"][:_SHOWN]],
    )
    output.table(
        "To look at; no verdict on anybody",
        ["annotator", "what", "evidence"],
        [[a["annotator"], a["what"], [f"{k} {v}" for k, v in a["evidence"].items()]] for a in told["anomalies"]],
    )


def _figures(estimate: dict[str, Any] | None) -> list[Any]:
    return [None] * 4 if estimate is None else [estimate[k] for k in ("value", "low", "high", "n")]


@answers.command("benchmark")
def benchmark(
    file: _File,
    form: _Format = Format.ANSWERS,
    judge: Annotated[
        list[Path] | None, typer.Option(help="CSV or JSON lines of a judge: worker (its name), task, label.")
    ] = None,
    json: bool = output.Json,
) -> None:
    """How far judges agree with people, beside how far people agree with each other."""
    from loop.label.aggregate import judging, reading, stacking

    collection = load(file, form)
    judges = dict(collection.judges)
    for path in judge or ():
        rows = reading.read(path)
        for name, task, label in zip(rows.worker, rows.task, rows.label, strict=True):
            judges.setdefault(name, {})[task] = label
    if not judges:
        raise BadInputError("expected a judge: --judge FILE with the columns worker (its name), task, label")
    told = stacking.aggregate(reading.answers_of(collection.rows)[0])
    found = {name: judging.compare(told, name, verdicts) for name, verdicts in sorted(judges.items())}
    if json:
        output.emit_json({"judges": [one and asdict(one) for one in found.values()]})
        return
    shown = ("with_a_person", "between_people", "difference", "expected", "with_the_label")
    for name, one in found.items():
        figures = [[what.replace("_", " "), *_figures(asdict(one)[what])] for what in shown] if one else []
        output.table(name, ["agreement", "", "low", "high", "tasks"], figures)
