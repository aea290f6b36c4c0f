"""Commands of the bridge to Label Studio."""

from __future__ import annotations

import contextlib
import getpass
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from loop import config, services
from loop.cli import output
from loop.cli.batches import workflow_of
from loop.config import Settings
from loop.errors import BadInputError
from loop.home import open_home
from loop.services import processes, serving
from loop.services import studio as service
from loop.state import State

if TYPE_CHECKING:
    from loop.label.studio.pull import Pulled

studio = typer.Typer(help="Label Studio, for those who label there.", no_args_is_help=True)

Workflow = Annotated[list[str] | None, typer.Option("--workflow", help="Only of this; may be repeated.")]


@studio.command("up")
def up(json: bool = output.Json) -> None:
    """Install Label Studio if need be (1 GB), run it until Ctrl-C, and pull answers as they come."""
    from loop.label.studio.watching import Watching

    settings = config.load()

    def announce(addresses: dict[str, str]) -> None:
        if json:
            output.emit_json({**addresses, "user": service.USER, "password_file": service.password_file(settings)})
            return
        output.stdout.print(f"Label Studio  {addresses['Label Studio']}")
        output.stdout.print(f"Log in as {service.USER}; the password stands in {service.password_file(settings)}.")
        output.stdout.print("`loop studio push` sends tasks there. Ctrl-C stops it.")

    watching: Watching | None = None

    def beside() -> None:
        nonlocal watching
        if watching is None:
            watching = Watching(settings, State.open(services.locate(settings).loop), _tell_shortly)
        watching()

    services.studio_up(settings, announce, beside)


@studio.command("down")
def down(json: bool = output.Json) -> None:
    """Stop Label Studio, or its installation; harmless when neither runs. What stands in it stays."""
    stopped = services.studio_down(config.load())
    if json:
        output.emit_json({"stopped": stopped})
    else:
        output.stdout.print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@studio.command("push")
def push(
    workflow: Workflow = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only of this; may be repeated.")] = None,
    harmful: Annotated[bool, typer.Option(help="Send tasks with a warning too, if everybody there agreed.")] = False,
    json: bool = output.Json,
) -> None:
    """Send tasks that want answers, each once; take away there what is gone here, as after an erasure."""
    from loop.label.studio.push import push as send
    from loop.label.studio.rest import Rest

    settings = config.load()
    workflows = None if workflow is None else [workflow_of(name) for name in workflow]
    with open_home(settings) as home, Rest(service.locate(settings)) as rest:
        done = send(
            settings,
            home.lake,
            home.state,
            rest,
            now=datetime.now(UTC),
            workflows=workflows,
            kinds=None if kind is None else [_kind(name) for name in kind],
            harmful=harmful,
            hook_url=_hook_url(settings),
        )
    if json:
        output.emit_json(msgspec.to_builtins(done))
        return
    output.stdout.print(f"{done.new:,} tasks sent, {done.there:,} were there, {done.withdrawn:,} taken away.")
    for why, count in done.left_out.most_common():
        output.stdout.print(f"{count:,} left out: {why}")


@studio.command("pull")
def pull(
    whole: Annotated[bool, typer.Option(help="Read everything, not only what changed.")] = False,
    watch: Annotated[bool, typer.Option(help="Go on until Ctrl-C, as `loop studio up` does beside its own.")] = False,
    json: bool = output.Json,
) -> None:
    """Copy what was answered since last time."""
    from loop.label.studio.pull import pull as fetch
    from loop.label.studio.rest import Rest
    from loop.label.studio.watching import Watching

    settings = config.load()
    if watch:
        with open_home(settings) as home, contextlib.suppress(KeyboardInterrupt):
            watching = Watching(settings, home.state, _tell_shortly)
            while True:
                watching()
                time.sleep(1.0)
        return
    with open_home(settings) as home, Rest(service.locate(settings)) as rest:
        done = fetch(settings, home.lake, home.state, rest, whole=whole)
    if json:
        output.emit_json(msgspec.to_builtins(done))
    else:
        _tell(done)


@studio.command("invite")
def invite(
    address: Annotated[str, typer.Argument(help="The e-mail address with which the person will log in.")],
    workflow: Workflow = None,
    pay: Annotated[float | None, typer.Option(help="What an hour is paid.")] = None,
    harmful: Annotated[
        bool | None,
        typer.Option(
            help="Whether the person agreed to see harmful texts; as noted where neither is said, at first not."
        ),
    ] = None,
    json: bool = output.Json,
) -> None:
    """Let a person's answers count, and show the link by which whoever has it makes an account there."""
    from loop.label.annotators import agree
    from loop.label.outside import enlist
    from loop.label.studio.rest import Rest

    settings = config.load()
    with open_home(settings) as home, Rest(service.locate(settings)) as rest:
        link = f"{rest.url}{rest.ask('GET', '/api/invite')['invite_url']}"
        row = enlist(
            settings,
            home.state,
            person=address.strip().lower(),  # as it stands there
            source="studio",
            workflows=[workflow_of(name) for name in workflow] if workflow else None,
            pay_per_hour=pay,
            author=getpass.getuser(),
        )
        if harmful is not None and not agree(home.state, row, harmful=harmful, source="studio"):
            raise BadInputError(f"{address} labels on the page too, and says there whether harmful texts may be shown")
    if json:
        output.emit_json({"annotator": row, "link": link})
    else:
        output.stdout.print(f"What {address} answers counts, under that address alone. The account is made at")
        print(link)


@studio.command("status")
def status(json: bool = output.Json) -> None:
    """Whether it is installed and answers, and what stands in it."""
    from loop.errors import LoopError
    from loop.label.studio.push import ours
    from loop.label.studio.rest import Rest

    settings = config.load()
    told: dict[str, Any] = {"installed": service.installed(settings), "url": None, "version": None, "projects": []}
    try:
        at = service.locate(settings)
        told["url"] = at.url
        with Rest(at) as rest:
            told["version"] = rest.version()
            names = {"id": "id", "title": "title", "task_number": "tasks", "total_annotations_number": "answers"}
            found = ours(settings, rest.projects()).values()
            told["projects"] = [{name: project.get(key) for key, name in names.items()} for project in found]
    except LoopError as error:
        told["problem"] = str(error)
    if json:
        output.emit_json(told)
    elif "problem" in told:
        output.stdout.print(told["problem"])
    else:
        rows = [[one["id"], one["title"], one["tasks"], one["answers"]] for one in told["projects"]]
        output.table(f"Label Studio {told['version']} at {told['url']}", ["", "project", "tasks", "answers"], rows)


def _hook_url(settings: Settings) -> str | None:
    """Where the gateway can be told; None where it does not run."""
    from loop.label.studio import hook

    running = processes.read(settings).processes.get(serving.FRONT)
    return f"{running.address}{hook.PATH}" if running and running.alive else None


def _kind(name: str) -> str:
    from loop.label.tasks import Kind

    if name not in list(Kind):
        raise BadInputError(f"kind: expected one of {', '.join(Kind)}, got {name!r}")
    return name


def _tell(done: Pulled) -> None:
    recorded = done.recorded
    output.stdout.print(
        f"{done.tasks:,} tasks looked at, {done.answers:,} answers there: {recorded.new:,} new, {recorded.changed:,} "
        f"changed ({done.undone:,} deleted), {recorded.repeated:,} known, {done.older:,} replaced by later ones."
    )
    for what, reasons in (("not stored", done.set_aside + recorded.refused), ("not counted", recorded.uncounted)):
        for why, count in reasons.most_common():
            output.stdout.print(f"{count:,} {what}: {why}")


def _tell_shortly(done: Pulled) -> None:
    if done.recorded.new or done.recorded.changed:
        output.stderr.print(f"pulled {done.recorded.new:,} new and {done.recorded.changed:,} changed answers")
