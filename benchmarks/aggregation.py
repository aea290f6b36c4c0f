"""What aggregated answers are worth against known truth, and what they cost. Prints one JSON object a set.

    python benchmarks/aggregation.py quality ../shared/data/crowd_gold/CF.csv ... [--pictures docs/aggregation]
    python benchmarks/aggregation.py robust ../shared/data/crowd_gold/CF_amt.csv ...
    python benchmarks/aggregation.py synthetic
    python benchmarks/aggregation.py speed

Where crowd-kit 1.4.2 is installed, its four methods stand beside ours. It is no dependency of the project: make an
environment of its own with `pip install crowd-kit==1.4.2 matplotlib`, and run this there with PYTHONPATH=. (what it
imports of the project needs NumPy and SciPy alone). Gold is read to measure and by nothing else.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from loop.label.aggregate import reading, stacking
from loop.label.aggregate.answers import Answers
from loop.label.aggregate.stacking import Method, aggregate

BINS = 10
FLOOR = 1e-6
"""A probability of 0 that turns out true would cost infinitely much: nothing is believed less than this."""
RESAMPLES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "robust", "synthetic", "speed"])
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    match given.what:
        case "quality":
            for path in given.paths:
                told, curves = quality(path)
                print(json.dumps(told), flush=True)
                if given.pictures:
                    draw(path.stem, curves, given.pictures)
        case "robust":
            for path in given.paths:
                print(json.dumps(robust(path, given.seeds)), flush=True)
        case "synthetic":
            print(json.dumps(synthetic(given.seeds)))
        case "speed":
            print(json.dumps(speed()))


# -- quality --------------------------------------------------------------------------------------------------------


def quality(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each method against gold, and the default's log loss less one-coin's, with a bootstrap over tasks."""
    answers, found, gold = reading.answers_of(reading.read(path))
    believed: dict[str, Any] = {}
    told: dict[str, Any] = {"set": path.stem, "answers": len(answers), "duplicates": found.duplicates, "methods": {}}
    for method in Method:
        started = time.perf_counter()
        result = aggregate(answers, method)
        believed[method.value] = result.probabilities
        told["methods"][method.value] = {**measures(result.probabilities, gold), "seconds": since(started)}
        if method is Method.STACKED:
            told["weights"], told["held_out_answers"] = result.weights, round(result.held_out or 0, 4)
            sure = ~result.abstain
            told["abstains"] = round(1 - sure.mean(), 4)
            told["accuracy_where_sure"] = round(float((result.label == gold)[sure].mean()), 4)
            told["seeds"] = [
                round(float((aggregate(answers, seed=seed).label == gold).mean()), 4) for seed in range(1, 5)
            ]
    for name, (probabilities, label, seconds) in crowd_kit(answers).items():
        believed[name] = probabilities
        told["methods"][name] = {**measures(probabilities, gold, label), "seconds": seconds}
    against = "crowd-kit one-coin" if "crowd-kit one-coin" in believed else Method.ONE_COIN.value
    gain = losses(believed[against], gold) - losses(believed[Method.STACKED.value], gold)
    means = np.random.default_rng(0).choice(gain, (RESAMPLES, len(gain))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    told["log_loss_gained"] = {"against": against, "mean": round(float(gain.mean()), 4), "low": round(float(low), 4)}
    told["log_loss_gained"]["high"] = round(float(high), 4)
    shown = {Method.STACKED.value: believed[Method.STACKED.value], against: believed[against]}
    shown[Method.MAJORITY.value] = believed[Method.MAJORITY.value]
    return told, {name: (*reliability(p, gold), risk(p, gold)) for name, p in shown.items()}


def losses(believed: Any, gold: Any) -> Any:
    clipped = np.clip(believed, FLOOR, 1)
    clipped = clipped / clipped.sum(1, keepdims=True)
    return -np.log(clipped[np.arange(len(gold)), gold])


def measures(believed: Any, gold: Any, label: Any = None) -> dict[str, float]:
    """Accuracy, log loss of gold (nats), expected calibration error, mean of the risk over all coverages."""
    sure, shares, right = reliability(believed, gold)
    label = believed.argmax(1) if label is None else label
    brier = ((believed - np.eye(believed.shape[1])[gold]) ** 2).sum(1).mean()
    told = {
        "accuracy": (label == gold).mean(),
        "log_loss": losses(believed, gold).mean(),
        "brier": brier,
        "ece": float((shares * np.abs(sure - right)).sum()),
        "aurc": risk(believed, gold).mean(),
    }
    return {name: round(float(value), 4) for name, value in told.items()}


def reliability(believed: Any, gold: Any) -> tuple[Any, Any, Any]:
    """By tenths of confidence that hold tasks: mean confidence, share of the tasks, share that is right."""
    sure, right = believed.max(1), believed.argmax(1) == gold
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    held = counts > 0
    mean = np.bincount(place, sure, BINS)[held] / counts[held]
    return mean, counts[held] / len(gold), np.bincount(place, right, BINS)[held] / counts[held]


def risk(believed: Any, gold: Any) -> Any:
    """Share of wrong labels among the surest 1, 2, ... tasks; of equally sure ones each is as wrong as all of them."""
    sure, wrong = believed.max(1), (believed.argmax(1) != gold).astype(float)
    _, same = np.unique(-sure, return_inverse=True)
    mean = np.bincount(same, wrong) / np.bincount(same)
    order = np.argsort(-sure, kind="stable")
    return np.cumsum(mean[same[order]]) / np.arange(1, len(gold) + 1)


def crowd_kit(answers: Answers) -> dict[str, tuple[Any, Any, float]]:
    if importlib.util.find_spec("crowdkit") is None:
        return {}
    import pandas as pd
    from crowdkit.aggregation import GLAD, DawidSkene, MajorityVote, OneCoinDawidSkene

    rows = pd.DataFrame({"worker": answers.worker, "task": answers.task, "label": answers.label})
    found = {}
    for name, method in {
        "majority": MajorityVote(),
        "dawid-skene": DawidSkene(n_iter=100),
        "one-coin": OneCoinDawidSkene(n_iter=100),
        "glad": GLAD(n_iter=100),
    }.items():
        started = time.perf_counter()
        believed = method.fit_predict_proba(rows).reindex(index=range(len(answers.tasks)))
        believed = believed.reindex(columns=range(len(answers.labels))).fillna(0).to_numpy()
        label = method.fit_predict(rows).reindex(range(len(answers.tasks))).to_numpy()
        found[f"crowd-kit {name}"] = believed, label, since(started)
    return found


def draw(name: str, curves: dict[str, Any], folder: Path) -> None:
    """Reliability and risk against coverage, side by side."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "loop", "svg.fonttype": "none"}
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for (method, (sure, shares, hits, risks)), colour in zip(curves.items(), ("C0", "C3", "0.5"), strict=False):
        left.plot(sure, hits, color=colour, marker="o", markersize=3, label=method)
        left.scatter(sure, hits, s=shares * 400, color=colour, alpha=0.25, linewidths=0)
        places = np.unique(np.linspace(0, len(risks) - 1, 200).astype(int))
        right.plot((places + 1) / len(risks), risks[places], color=colour, label=method)
    left.set(
        xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02), title=f"{name}: reliability"
    )
    right.set(
        xlabel="share of tasks, the surest first", ylabel="share that is wrong", title=f"{name}: risk and coverage"
    )
    right.set_ylim(0, None)
    right.legend(frameon=False, fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


# -- robustness -----------------------------------------------------------------------------------------------------


def robust(path: Path, seeds: int) -> dict[str, Any]:
    """With 3, 5 and 10 answers a task, drawn anew by seed: means, and the default less one-coin, task by task."""
    answers, _, gold = reading.answers_of(reading.read(path))
    told: dict[str, Any] = {"set": path.stem}
    for each in (3, 5, 10):
        if each >= len(answers) / len(answers.tasks):
            continue
        runs = []
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(answers))
            order = order[np.argsort(answers.task[order], kind="stable")]
            begins = np.flatnonzero(np.diff(answers.task[order], prepend=-1))
            rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
            kept = np.zeros(len(answers), dtype=bool)
            kept[order[rank < each]] = True
            runs.append({m.value: measures(aggregate(answers.where(kept), m).probabilities, gold) for m in Method})
        told[f"{each} answers"] = {
            m.value: {k: round(float(np.mean([run[m.value][k] for run in runs])), 4) for k in runs[0][m.value]}
            for m in Method
        }
    return told


def synthetic(seeds: int) -> dict[str, Any]:
    """Crowds that were made: of one coin each, of hard tasks, of tasks that most get wrong alike, of liars."""
    told: dict[str, Any] = {}
    for name, (hard, torn, liars) in {
        "one coin each": (0.0, 0.0, 0.0),
        "a third of the tasks hard": (0.33, 0.0, 0.0),
        "a fifth misleading": (0.0, 0.2, 0.0),
        "a tenth of the workers lie": (0.0, 0.0, 0.1),
    }.items():
        runs = []
        for seed in range(seeds):
            answers, truth = made(seed, hard=hard, torn=torn, liars=liars)
            runs.append({m.value: measures(aggregate(answers, m).probabilities, truth) for m in Method})
        told[name] = {
            m.value: {k: round(float(np.mean([run[m.value][k] for run in runs])), 4) for k in runs[0][m.value]}
            for m in Method
        }
    return told


def made(  # noqa: PLR0913 - what the crowd is like
    seed: int,
    *,
    tasks: int = 500,
    people: int = 60,
    each: int = 7,
    labels: int = 3,
    hard: float,
    torn: float,
    liars: float,
) -> tuple[Answers, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(labels, size=tasks)
    task = np.repeat(np.arange(tasks), each)
    worker = np.argsort(rng.random((tasks, people)), axis=1)[:, :each].ravel()
    skill = np.where(np.arange(people) < liars * people, 0.05, rng.beta(6, 2, size=people))
    kind = rng.random(tasks)
    said = np.where(
        rng.random(len(task)) < skill[worker],
        truth[task],
        (truth[task] + rng.integers(1, labels, size=len(task))) % labels,
    )
    said = np.where(kind[task] < hard, rng.integers(labels, size=len(task)), said)
    other = (truth + rng.integers(1, labels, size=tasks)) % labels
    pulled = np.where(rng.random(len(task)) < 0.6, other[task], truth[task])
    said = np.where((kind[task] >= hard) & (kind[task] < hard + torn), pulled, said)
    names = tuple(map(str, range(people))), tuple(map(str, range(tasks))), tuple(map(str, range(labels)))
    return Answers(*names, worker, task, said), truth


# -- speed ----------------------------------------------------------------------------------------------------------


def speed(answers: int = 1_000_000, workers: int = 5_000, each: int = 5, labels: int = 4) -> dict[str, Any]:
    """A CSV of a million answers read, aggregated and written as `loop answers aggregate` does."""
    from loop.cli.answers import _aggregate_file
    from loop.label.aggregate.public import Format, load

    rng = np.random.default_rng(0)
    tasks = answers // each
    truth, hardness = rng.integers(labels, size=tasks), rng.beta(1, 4, size=tasks)
    task = np.repeat(np.arange(tasks), each)
    worker = ((rng.integers(workers, size=tasks)[:, None] + np.arange(each) * 617) % workers).ravel()
    right = rng.random(answers) < rng.beta(6, 2, size=workers)[worker] * (1 - 0.7 * hardness[task])
    said = np.where(right, truth[task], rng.integers(labels, size=answers))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.csv"
        lines = (f"w{w},t{t},l{x},l{g}\n" for w, t, x, g in zip(worker, task, said, truth[task], strict=True))
        path.write_text("".join(lines))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu, started = time.process_time(), time.perf_counter()
        collection = load(path, Format.ANSWERS)
        read = since(started)
        _aggregate_file(collection, Path(folder) / "o.parquet", Method.STACKED, stacking.SURE, json=True)
        told = {"answers": answers, "workers": workers, "tasks": tasks, "reading_s": read, "wall_s": since(started)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told | {"cpu_s": round(time.process_time() - cpu, 1), "peak_mb": peak // 1024, "before_mb": before // 1024}


def since(started: float) -> float:
    return round(time.perf_counter() - started, 2)


if __name__ == "__main__":
    main()
