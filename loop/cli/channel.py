"""How the simulated organisation reaches the loop: in this process, or over HTTP as tools at work do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from loop.collect import events, landing
from loop.collect.record import Record
from loop.errors import LoopError
from loop.home import Home
from loop.release import releases
from loop.simulate.organisation import Event, Organisation, Request, Suggestion
from loop.validate import contract

if TYPE_CHECKING:
    from openai import OpenAI

    from loop.cli.dagster import Orchestrator
    from loop.client import Loop
    from loop.release.serve import Server

USERS: Final = 16
"""People who use the gateway at the same time."""
PATIENCE: Final = 60.0
"""Seconds in which the gateway must have taken up a new champion, or sealed what it acknowledged."""


class Channel(Protocol):
    """The two things that tools at work do."""

    def suggest(self, day: date, requests: Sequence[Request]) -> list[Suggestion]:
        """A suggestion by the champion of that day for each request."""
        ...

    def send(self, day: date, sent: Sequence[Event]) -> None:
        """Bring what people did into the landing area."""
        ...


class InProcess:
    """The model in this process, and the landing area itself."""

    def __init__(self, home: Home, seed: int) -> None:
        self.home, self.seed = home, seed

    def suggest(self, day: date, requests: Sequence[Request]) -> list[Suggestion]:
        from loop.release import serve

        asked = [serve.Request(r.id, r.workflow, r.prompt) for r in requests]
        return [
            Suggestion(
                id=s.suggestion_id,
                model_version=s.model_version,
                candidates=tuple(c.text for c in s.candidates),
                logprobs=tuple(c.logprob for c in s.candidates),
                arm_propensity=s.arm_propensity,
                order_propensity=s.order_propensity,
            )
            for s in self._server(day).suggest(asked, n=2, seed=self.seed)
        ]

    def send(self, day: date, sent: Sequence[Event]) -> None:
        path = f"simulated {day}"
        records = [Record(n, events.encode(event), path) for n, event in enumerate(sent, 1)]
        done = landing.land(
            self.home.settings,
            self.home.lake,
            self.home.state,
            source="simulated",
            name=path,
            records=records,
            contract=contract.split,
        )
        if done.quarantined:
            raise LoopError(f"the simulated tools sent {done.quarantined} events that break the contract on {day}")

    def _server(self, day: date) -> Server:
        """Whoever is champion as the day begins; also when a day that broke off is lived again."""
        from loop.models import Model
        from loop.release.serve import Server

        made = releases.model_version(self.home.state, _champion(self.home, day))
        return Server(Model.load(self.home.path(made.path)), made.version)


class ThroughGateway:
    """The `openai` client asks, Loop's own client tells; the job `drain` moves what was told into the lake.

    Days are those of the simulated calendar, so the tool's token may say when something was received.
    """

    def __init__(
        self, home: Home, dagster: Orchestrator, organisation: Organisation, *, openai: OpenAI, loop: Loop
    ) -> None:
        self.home, self.dagster, self.organisation, self.openai, self.loop = home, dagster, organisation, openai, loop
        self._requests: dict[str, Request] = {}

    def suggest(self, day: date, requests: Sequence[Request]) -> list[Suggestion]:
        champion, until = _champion(self.home, day), time.monotonic() + PATIENCE
        while (served := self._ask(requests[0])).model_version != champion:
            if time.monotonic() > until:
                raise LoopError(f"the gateway serves {served.model_version}, expected the champion {champion}")
            time.sleep(0.5)
        self._requests = {f"event-{request.id}": request for request in requests}
        with ThreadPoolExecutor(USERS) as users:
            suggestions = [served, *users.map(self._ask, requests[1:])]
        if mixed := {s.model_version for s in suggestions} - {champion}:
            raise LoopError(f"the gateway mixed {', '.join(mixed)} into a day of {champion}")
        return suggestions

    def send(self, day: date, sent: Sequence[Event]) -> None:
        with ThreadPoolExecutor(USERS) as users:
            list(users.map(self._tell, sent))
            again = (self.organisation.revise(self._requests[event["event_id"]], event) for event in sent)
            list(users.map(self._tell, [event for event in again if event is not None]))
        until = time.monotonic() + PATIENCE
        while any(self.home.settings.spool.glob("*.open")):
            if time.monotonic() > until:
                raise LoopError("the gateway has not sealed what it acknowledged; see `loop doctor`")
            time.sleep(0.2)
        self.dagster.drain()

    def _ask(self, request: Request) -> Suggestion:
        answer = self.openai.chat.completions.create(
            model=request.workflow,
            messages=request.prompt,  # type: ignore[arg-type]
            n=2,
            user=request.employee,
            metadata={
                "team": request.team,
                "region": request.region,
                "episode_id": f"episode-{request.id}",
                "turn": "0",
            },
        )
        told: dict[str, Any] = (answer.model_extra or {})["loop"]
        return Suggestion(
            id=answer.id,
            model_version=told["model_version"],
            candidates=tuple(choice.message.content or "" for choice in answer.choices),
            logprobs=tuple(told["logprobs"]),
            arm_propensity=told["arm_propensity"],
            order_propensity=told["order_propensity"],
        )

    def _tell(self, event: Event) -> None:
        names = ("event_id", "reasons", "dwell_ms", "shown_at", "decided_at", "received_at")
        self.loop.feedback(
            event["suggestion_id"],
            event["decision"],
            chosen=event["chosen"],
            final_text=event["final_text"],
            **{name: event[name] for name in names if event[name] is not None},
        )


@contextmanager
def through_gateway(home: Home, dagster: Orchestrator, organisation: Organisation) -> Iterator[ThroughGateway]:
    """A gateway of this home, `loop gateway` in a process of its own, with a token, for the time of the command."""
    from openai import OpenAI

    from loop.client import Loop
    from loop.gateway import access

    token = access.create(
        home.state,
        tool="loop run",
        workflows=organisation.workflows,
        scopes=("suggest", "feedback", "admin"),
        purposes=("training", "evaluation"),
        per_minute=1_000_000,
        author="loop run",
    )
    try:
        with (
            _gateway(home) as url,
            OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=5) as openai,
            Loop(url, token) as client,
        ):
            yield ThroughGateway(home, dagster, organisation, openai=openai, loop=client)
    finally:
        access.revoke(home.state, token.split("_")[1], "loop run")


@contextmanager
def _gateway(home: Home) -> Iterator[str]:
    """The address of a gateway that runs until the end of the block."""
    command = [str(Path(sys.executable).with_name("loop")), "gateway", "--json"]
    quick = {"LOOP_SPOOL_SEGMENT_SECONDS": "1"}  # a simulated day waits for its last segment
    environment = {**os.environ, **home.settings.as_environment(), **quick}
    # What it says goes to a file, for a pipe that nobody reads would stop it once it is full.
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                said.seek(0)
                raise LoopError(f"the gateway did not start: {said.read().strip()[-500:]}")
            url = next(iter(json.loads(told).values()))
            _await_suggestions(url)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _await_suggestions(url: str) -> None:
    """Until the generator has loaded a champion; the front answers before."""
    import httpx

    until = time.monotonic() + PATIENCE
    while not (told := httpx.get(f"{url}/readyz").json())["suggestions"]:
        if time.monotonic() > until:
            raise LoopError(f"the gateway makes no suggestions: {told['reasons']}")
        time.sleep(0.2)


def _champion(home: Home, day: date) -> str:
    version = releases.champion_as_of(home.state, day)
    assert version is not None, "`begin` made the base"
    return version
