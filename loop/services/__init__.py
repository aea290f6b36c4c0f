"""The services that run for a home, and their sole owner: Postgres, MLflow, Dagster's two, the gateway's two, Label
Studio.

Commands call `session` and get databases. `up` starts everything to live with, `gateway` what tools at work speak to,
`down` stops whatever of this home is running. Nothing else in Loop starts or ends a process that outlives a call.
"""

from loop.services.doctor import doctor
from loop.services.finding import Finding
from loop.services.living import down, env, exports, gateway, mlflow_ui, studio_down, studio_up, up
from loop.services.postgres import Urls, locate
from loop.services.sessions import ensure_postgres, session
from loop.services.tools import artifacts, environment, mlflow_uri, prepare

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
    "gateway",
    "locate",
    "mlflow_ui",
    "mlflow_uri",
    "prepare",
    "session",
    "studio_down",
    "studio_up",
    "up",
]
