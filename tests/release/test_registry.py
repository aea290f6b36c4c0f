"""MLflow for real, on a database of its own: what is logged comes back, and the alias follows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from loop.errors import BadInputError, LoopError
from loop.release.registry import NAME, PolicyRun, Registry
from loop.train.curve import Curve, Outcome

pytestmark = pytest.mark.slow


@pytest.fixture
def policy(tmp_path: Path) -> PolicyRun:
    weights = tmp_path / "models" / "m 1"
    weights.mkdir(parents=True)
    (weights / "model.safetensors").write_bytes(b"\0" * 1000)
    return PolicyRun(
        version="m-1",
        parent="m-0",
        cycle=date(2026, 3, 2),
        path=weights,
        weights_digest="a" * 64,
        training_digest="d" * 64,
        training_path=tmp_path / "training_sets" / "d",
        seed=7,
        code="0.1.0",
        recipe={"sft": {"steps": 60, "learning_rate": 1e-3}, "dpo": {"beta": 0.1}},
        curves=(
            Curve(
                "sft", Outcome.TRAINED, losses=tuple(3.0 - i / 60 for i in range(60)), rows=50, tokens=900, seconds=1.5
            ),
            Curve(
                "dpo",
                Outcome.TRAINED,
                losses=(0.69,) * 30,
                metrics={"rewards/margins": tuple(i / 30 for i in range(30))},
                rows=20,
            ),
        ),
        tags={"dagster_run": "run-1", "attempt": "2"},
    )


def test_a_policy_run_comes_back_whole(registry: Registry, policy: PolicyRun) -> None:
    run_id = registry.log(policy)
    run = registry.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "parent": "m-0",
        "training_digest": "d" * 64,
        "seed": "7",
        "code": "0.1.0",
        "sft.steps": "60",
        "sft.learning_rate": "0.001",
        "dpo.beta": "0.1",
    }
    assert {k: run.data.tags[k] for k in ("cycle", "version", "dagster_run", "attempt")} == {
        "cycle": "2026-03-02",
        "version": "m-1",
        "dagster_run": "run-1",
        "attempt": "2",
    }
    history = registry.client.get_metric_history(run_id, "sft/loss")
    assert [(point.step, point.value) for point in history] == [(i, 3.0 - i / 60) for i in range(60)]
    assert len(registry.client.get_metric_history(run_id, "dpo/rewards/margins")) == 30
    assert run.data.metrics["sft/tokens"] == 900
    [given] = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("training_set", "d" * 36)


def test_weights_are_pointed_at_and_not_copied(registry: Registry, policy: PolicyRun) -> None:
    run_id = registry.log(policy)
    [version] = registry.client.search_model_versions(f"run_id = '{run_id}'")
    assert version.source == policy.path.as_uri()
    assert version.tags["version"] == "m-1"
    kept = [file for file in registry._artifacts.rglob("*") if file.suffix == ".safetensors"]
    assert kept == []


def test_the_alias_moves_when_told_and_only_then(registry: Registry, policy: PolicyRun) -> None:
    first = registry.log(policy)
    registry.point_champion(first)
    assert registry.champion() == "m-1"
    second = registry.log(replace(policy, version="m-2"))
    assert registry.champion() == "m-1"
    registry.point_champion(second)
    registry.point_champion(second)
    assert registry.champion() == "m-2"


def test_a_decision_is_on_the_run_and_on_the_version(registry: Registry, policy: PolicyRun) -> None:
    run_id = registry.log(policy)
    reasons = ["no panel evidence", "x" * 8_000]
    registry.decide(run_id, decision="refused", reasons=reasons, live=False, metrics={"panel/whole": -0.25})
    run = registry.client.get_run(run_id)
    [version] = registry.client.search_model_versions(f"run_id = '{run_id}'")
    for tags in (run.data.tags, version.tags):
        assert (tags["decision"], tags["live"]) == ("refused", "false")
        assert tags["reasons"].startswith("no panel evidence; xxx")
    assert run.data.metrics["panel/whole"] == -0.25


def test_the_card_is_a_file_and_the_version_description(registry: Registry, policy: PolicyRun) -> None:
    run_id = registry.log(policy)
    registry.write_card(run_id, "# Model m-1\n")
    registry.write_card(run_id, "# Model m-1\n\n**refused**\n")
    [version] = registry.client.search_model_versions(f"run_id = '{run_id}'")
    assert version.description == "# Model m-1\n\n**refused**\n"
    [file] = registry._artifacts.glob(f"{run_id}/artifacts/*")
    assert (file.name, file.read_text()) == ("model_card.md", "# Model m-1\n\n**refused**\n")


def test_a_long_card_is_shown_as_far_as_there_is_room(registry: Registry, policy: PolicyRun) -> None:
    run_id = registry.log(policy)
    long = "# Model m-1\n" + "one of many lines\n" * 400
    registry.write_card(run_id, long)
    [version] = registry.client.search_model_versions(f"run_id = '{run_id}'")
    assert 4_900 < len(version.description) <= 5_000
    assert version.description.endswith("lines\n\nThe card goes on in the run's artifact `model_card.md`.")
    assert registry.client.get_run(run_id).data.tags["mlflow.note.content"] == version.description
    assert next(registry._artifacts.glob(f"{run_id}/artifacts/*")).read_text() == long


def test_a_base_has_no_parent_and_no_training_set(registry: Registry, policy: PolicyRun) -> None:
    base = replace(policy, parent=None, training_digest=None, training_path=None, curves=())
    run = registry.client.get_run(registry.log(base))
    assert "parent" not in run.data.params
    assert run.inputs.dataset_inputs == []


def test_a_second_registry_of_the_home_sees_the_same(registry: Registry, policy: PolicyRun) -> None:
    run_id = registry.log(policy)
    other = Registry(registry._uri, registry._artifacts)
    assert other.experiment == registry.experiment
    assert other.client.get_run(run_id).info.run_name == "m-1"
    assert registry.page(run_id) == f"/#/experiments/{registry.experiment}/runs/{run_id}?workflowType=machine_learning"


def test_an_unknown_run_and_a_servers_address_are_told(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="has no model version"):
        registry.point_champion("0" * 32)
    with pytest.raises(BadInputError, match="expected the URL of MLflow's database"):
        Registry("http://127.0.0.1:5000", tmp_path)


def test_the_registry_is_imported_without_mlflow() -> None:
    modules = "loop.release.registry, loop.release.card, loop.release.serve, loop.evaluate.evidence"
    code = f"import sys, {modules}; print(*('mlflow' in sys.modules, 'torch' in sys.modules, 'scipy' in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert out.stdout.split() == ["False"] * 3


def test_the_registered_model_is_one(registry: Registry, policy: PolicyRun) -> None:
    registry.log(policy)
    assert [model.name for model in registry.client.search_registered_models()] == [NAME]
