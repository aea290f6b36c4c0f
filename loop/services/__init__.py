"""The services that run for a home, and their sole owner: Postgres, MLflow, the Dagster webserver and daemon.

Commands call `session` and get databases. `up` starts everything to live with, `down` stops whatever of this home is
running. Nothing else in Loop starts or ends a process that outlives a call.
"""

from loop.services.doctor import Finding, doctor
from loop.services.living import down, env, exports, up
from loop.services.postgres import Urls, locate
from loop.services.sessions import ensure_postgres, session
from loop.services.tools import artifacts, environment, mlflow_ui, mlflow_uri, prepare

__all__ = [
    "Finding",
    "Urls",
    "artifacts",
    "doctor",
    "down",
    "ensure_postgres",
    "env",
    "environment",
    "exports",
    "locate",
    "mlflow_ui",
    "mlflow_uri",
    "prepare",
    "session",
    "up",
]
