"""The registry of model versions in MLflow: runs with their curves, versions that point at the weights, the alias.

The only module that imports MLflow. It writes straight to MLflow's database, whether a server shows it or not: a call
costs milliseconds, and a server refuses a version whose weights lie outside the run's own artifacts (it would have them
copied). The truth of who is champion stands in `releases`; here it is mirrored for people to look at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loop.errors import BadInputError, LoopError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from loop.train.curve import Curve

NAME: Final = "loop"
"""Of the experiment and of the registered model."""
CHAMPION: Final = "champion"
_SHOWN_AS: Final = {"mlflow.experimentKind": "custom_model_development"}
_SHOWN_AS_QUERY: Final = "workflowType=machine_learning"
"""With both the UI opens on training runs, and not on traces of prompts; a browser remembers which it showed last."""
_METRICS_A_CALL: Final = 1_000
_PARAMETER: Final = 6_000
"""Most characters of a parameter's value, and of a tag's."""
_DESCRIPTION: Final = 5_000
"""Most characters of a model version's description: its column in Postgres."""
_MORE: Final = "\n\nThe card goes on in the run's artifact `model_card.md`."


@dataclass(frozen=True)
class PolicyRun:
    """What is kept of the making of one model version."""

    version: str
    parent: str | None
    cycle: date
    path: Path
    """The folder of the weights; it is pointed at and stays where it is."""
    weights_digest: str
    training_digest: str | None
    training_path: Path | None
    seed: int
    code: str
    recipe: Mapping[str, Any]
    """Parameters by name, nested ones joined by a dot."""
    curves: Sequence[Curve]
    tags: Mapping[str, str] = field(default_factory=dict)
    """Such as the Dagster run and the attempt."""
    started_at: float | None = None
    """Seconds since the epoch; if absent, as long ago as the curves took."""


class Registry:
    """MLflow of one home.

    Args:
        uri: SQLAlchemy URL of MLflow's database.
        artifacts: folder for what is kept as files (model cards).

    Raises:
        BadInputError: the URL is a server's.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        if uri.startswith("http"):
            raise BadInputError("registry: expected the URL of MLflow's database, got a server's; see Urls.mlflow")
        self._uri = uri
        self._artifacts = artifacts

    @cached_property
    def client(self) -> MlflowClient:
        """Import and first use cost two to three seconds, hence not before it is needed."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @cached_property
    def experiment(self) -> str:
        """The experiment's id; it is made on first use, by whichever process comes first."""
        found = self.client.get_experiment_by_name(NAME)
        if found is None:
            place = self._artifacts.absolute().as_uri()
            self._made_once(lambda: self.client.create_experiment(NAME, artifact_location=place, tags=_SHOWN_AS))
            found = self.client.get_experiment_by_name(NAME)
        if found is None:
            raise LoopError(f"MLflow has no experiment {NAME!r} and would not make one; see `loop doctor`")
        return str(found.experiment_id)

    def log(self, policy: PolicyRun) -> str:
        """Write a run with parameters, curves and data set, and register its model version; the run's id."""
        from mlflow.entities import Param

        client = self.client
        took = sum(curve.seconds for curve in policy.curves)
        started = int((policy.started_at or time.time() - took) * 1000)
        tags = {
            "cycle": policy.cycle.isoformat(),
            "version": policy.version,
            "weights_digest": policy.weights_digest,
            **policy.tags,
        }
        run = client.create_run(self.experiment, start_time=started, run_name=policy.version, tags=tags)
        run_id = str(run.info.run_id)
        parameters = {
            "parent": policy.parent,
            "training_digest": policy.training_digest,
            "seed": policy.seed,
            "code": policy.code,
            **_flat(policy.recipe),
        }
        client.log_batch(run_id, params=[Param(k, str(v)[:_PARAMETER]) for k, v in parameters.items() if v is not None])
        self._log_curves(run_id, policy.curves, started)
        if policy.training_digest is not None:
            self._log_dataset(run_id, policy.training_digest, policy.training_path)
        client.set_terminated(run_id)
        self._made_once(lambda: client.create_registered_model(NAME))
        client.create_model_version(NAME, source=policy.path.absolute().as_uri(), run_id=run_id, tags=tags)
        return run_id

    def decide(
        self, run_id: str, *, decision: str, reasons: Sequence[str], live: bool, metrics: Mapping[str, float]
    ) -> None:
        """Write a release decision on the run and on its model version: tags, and the figures it stands on."""
        from mlflow.entities import Metric, RunTag

        tags = {"decision": decision, "reasons": "; ".join(reasons)[:_PARAMETER], "live": str(live).lower()}
        now = int(time.time() * 1000)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            tags=[RunTag(k, v) for k, v in tags.items()],
        )
        number = self._number(run_id)
        for key, value in tags.items():
            self.client.set_model_version_tag(NAME, number, key, value)

    def write_card(self, run_id: str, card: str) -> None:
        """Keep a model card (markdown) with the run, and show it on the run's page and on that of the model version.

        A long one is shown as far as there is room.
        """
        self.client.log_text(run_id, card, "model_card.md")
        if len(card) > _DESCRIPTION:
            card = card[: _DESCRIPTION - len(_MORE)].rpartition("\n")[0] + _MORE
        self.client.set_tag(run_id, "mlflow.note.content", card)
        self.client.update_model_version(NAME, self._number(run_id), description=card)

    def taint(self, run_id: str, *, share: float, ancestor: str | None) -> None:
        """Say on the run and on its model version that it learned from rows that were erased since.

        Args:
            share: of the rows of its own training set.
            ancestor: the version through which it did, if it was one that it was trained from.
        """
        tags = {"tainted": "true", "tainted_share": f"{share:.6f}"}
        if ancestor is not None:
            tags["tainted_by"] = ancestor
        number = self._number(run_id)
        for key, value in tags.items():
            self.client.set_tag(run_id, key, value)
            self.client.set_model_version_tag(NAME, number, key, value)

    def point_champion(self, run_id: str) -> None:
        """Move the alias `champion` to the version of that run; nothing happens if it is there."""
        number = self._number(run_id)
        if self._aliased() != number:
            self.client.set_registered_model_alias(NAME, CHAMPION, number)

    def champion(self) -> str | None:
        """The model version (as Loop names it) that the alias points at; None if it points nowhere."""
        number = self._aliased()
        return None if number is None else str(self.client.get_model_version(NAME, number).tags["version"])

    def page(self, run_id: str) -> str:
        """Where MLflow's server shows the run, below its own address."""
        return f"/#/experiments/{self.experiment}/runs/{run_id}?{_SHOWN_AS_QUERY}"

    # -- inside -----------------------------------------------------------------------------------------------------

    def _log_curves(self, run_id: str, curves: Sequence[Curve], started: int) -> None:
        """Every point as a metric `method/figure`, at the step at which it was taken.

        Points of one curve share a moment: trainers keep steps, not times.
        """
        from mlflow.entities import Metric

        points = [
            Metric(f"{curve.method}/{name}", float(value), started, step)
            for curve in curves
            for name, values in {"loss": curve.losses, **curve.metrics}.items()
            for step, value in enumerate(values)
        ]
        for curve in curves:
            totals = {
                "rows": curve.rows,
                "tokens": curve.tokens,
                "seconds": curve.seconds,
                "cut_tokens": curve.cut_tokens,
            }
            points += [Metric(f"{curve.method}/{name}", float(value), started, 0) for name, value in totals.items()]
        for start in range(0, len(points), _METRICS_A_CALL):
            self.client.log_batch(run_id, metrics=points[start : start + _METRICS_A_CALL])

    def _log_dataset(self, run_id: str, digest: str, path: Path | None) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = "" if path is None else path.absolute().as_uri()
        # MLflow allows 36 characters of digest; the whole one is a parameter.
        dataset = Dataset(name="training_set", digest=digest[:36], source_type="local", source=source)
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _number(self, run_id: str) -> str:
        """MLflow's number of the version that the run made."""
        found = self.client.search_model_versions(f"run_id = '{run_id}'")
        if not found:
            raise LoopError(f"MLflow run {run_id} has no model version; was it logged in another home?")
        return str(found[0].version)

    def _aliased(self) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_model_version_by_alias(NAME, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}:
                return None
            raise

    def _made_once(self, make: Callable[[], object]) -> None:
        """Two processes may come to make the same thing; the second finds it made."""
        from mlflow.exceptions import MlflowException

        try:
            make()
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
