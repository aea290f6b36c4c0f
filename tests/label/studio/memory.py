"""Helpers: as much of a Label Studio as push and pull ask of it, in memory. The real one: `test_real_studio.py`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from loop.label.studio.rest import Rest
from loop.services.studio import Studio


class Memory(Rest):
    """Projects and tasks; who is asked for what nobody has asked yet fails."""

    def __init__(self) -> None:
        super().__init__(Studio("http://127.0.0.1:9", "token"))
        self.made: list[dict[str, Any]] = []
        self.held: dict[int, list[dict[str, Any]]] = {}
        self.people: dict[int, str] = {}

    def users(self) -> dict[int, str]:
        return self.people

    def owner(self) -> str:
        return "loop@localhost"

    def projects(self) -> list[dict[str, Any]]:
        return self.made

    def tasks(self, project: int, *, since: datetime | None = None, answers: bool = True) -> Iterator[list[Any]]:
        if held := self.held[project]:
            yield list(held)

    def answer(self, task: dict[str, Any], user: int, at: datetime, **value: Any) -> None:
        """Somebody answers a task."""
        result = [{"from_name": "answer", "to_name": "text", "type": "any", "value": value}]
        told = {"completed_by": user, "updated_by": user, "updated_at": at.isoformat(), "was_cancelled": False}
        task["annotations"].append({"id": 1 + len(task["annotations"]), "result": result, **told})

    def ask(self, method: str, path: str, *, params: Any = None, send: Any = None, again: bool = True) -> Any:
        match method, path.strip("/").split("/")[1:]:
            case "POST", ["projects"]:
                self.made.append({"id": len(self.made) + 1, **send})
                self.held[len(self.made)] = []
                return self.made[-1]
            case "POST", ["projects", number, "import"]:
                for one in send:
                    fresh = {"id": sum(map(len, self.held.values())) + 1, "updated_at": datetime.now(UTC).isoformat()}
                    self.held[int(number)].append({**one, **fresh, "annotations": []})
                return {"task_count": len(send)}
            case "DELETE", ["tasks", number]:
                for project, held in self.held.items():
                    self.held[project] = [task for task in held if task["id"] != int(number)]
                return None
        raise AssertionError(f"{method} {path}")
