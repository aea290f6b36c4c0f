"""The one resource: the open home. It starts what it needs and stops what it started."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from loop import config, schema, services
from loop.home import Home, open_home


class HomeResource(dg.ConfigurableResource[Any]):
    """Settings, lake and state of the home that `LOOP_HOME` names."""

    _home: Home = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["HomeResource"]:
        with open_home(config.load()) as home:
            self._home = home
            yield self

    def get(self) -> Home:
        return self._home


def columns(table: str) -> dict[str, Any]:
    """A table's columns as Dagster's metadata, from the one schema."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[
                dg.TableColumn(
                    c.name,
                    str(c.type),
                    description=c.meaning,
                    constraints=dg.TableColumnConstraints(nullable=c.nullable),
                    tags={"privacy": c.privacy.value},
                )
                for c in schema.TABLES[table].columns
            ]
        )
    }


def mlflow_page(home: Home, page: str | None) -> dict[str, Any]:
    """A link to a page of MLflow as Dagster's metadata; nothing where there is no page."""
    return {"mlflow": dg.MetadataValue.url(services.mlflow_ui(home.settings) + page)} if page else {}


def described(table: str) -> str:
    """`One row per ...`, from the one schema."""
    row = schema.TABLES[table].row
    return f"{row[0].upper()}{row[1:]}."
