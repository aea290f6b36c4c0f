"""A run of synthesis against a real server, from thin slices to the training set; and what an erasure leaves of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loop import cycle, erase
from loop.collect.events import pseudonym
from loop.erase.subject import Kind, subject
from loop.errors import LoopError
from loop.home import Home
from loop.label import batches
from loop.label.derive import split_of
from loop.label.synthesize import using
from loop.label.synthesize.generate import Endpoint
from loop.label.synthesize.run import Synthesised, synthesise
from loop.label.synthesize.thin import slices
from loop.schema import BatchStatus, Split
from loop.train import dataset
from tests.gateway.generators import serving
from tests.label.synthesize.test_ablation import COLOURS, THINGS
from tests.rows import DAY, decision, interactions

WORKFLOW = "comms"
NOW = datetime(2026, 1, 6, tzinfo=UTC)
Write = Callable[[str, int], str]


def right(prompt: str, turn: int) -> str:
    thing = next(word for word in prompt.split() if word in THINGS)
    return f"paint it {COLOURS[THINGS.index(thing) % 6]}, then wait"


def wrong(prompt: str, turn: int) -> str:
    thing = next(word for word in prompt.split() if word in THINGS)
    return f"paint it {COLOURS[(THINGS.index(thing) + 1) % 6]}, then wait"


class Server:
    """Speaks OpenAI's protocol; at most two choices a request."""

    def __init__(self, write: Write, status: int = 200) -> None:
        self.write, self.status = write, status
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        if self.status != 200:
            return JSONResponse({"error": {"message": "the key sk-secret is bad"}}, status_code=self.status)
        texts = [self.write(body["messages"][-1]["content"], n) for n in range(min(body["n"], 2))]
        choices = [
            {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for n, text in enumerate(texts)
        ]
        return JSONResponse({"id": "c", "object": "chat.completion", "created": 0, "model": "big", "choices": choices})

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/chat/completions", self.complete, methods=["POST"])])


@pytest.fixture
def lived(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LOOP_SECRET_PSEUDONYM", "5e" * 32)  # by the names that it makes people are held out
    live(home)
    return home


def live(home: Home) -> None:
    """Two teams paint one half of the things and accept what they are shown; a third team has the other half.

    There, who is of the training side has rejected everything, and who is held out has written what is right.
    """
    draw, rows = random.Random(0), []
    key = home.settings.secret("pseudonym")
    for n in range(450):
        here = n % 3 < 2
        place = draw.randrange(30) + (0 if here else 30)
        who = pseudonym(f"person-{n % 61}", key)
        text = f"paint it {COLOURS[place % 6]}, then wait"
        row = decision(
            n,
            "accept",
            0,
            text,
            prompt=[{"role": "user", "content": f"please paint the {THINGS[place]} for us, number {n}"}],
            candidates=[{"position": 0, "text": text, "logprob": None}],
            employee=who,
            team=f"team {n % 3}",
        )
        if not here and split_of(who, home.settings.held_out_share, home.settings.seed) is Split.TRAIN:
            row |= {"decision": "reject", "chosen": None, "final_text": None}
        rows.append(row)
    home.lake.overwrite("interactions", interactions(*rows), day=DAY, workflow=WORKFLOW)
    told: dict[str, Any] = {"rows": 450, "quarantined": 0, "reasons": [], "author": "a", "run_id": None}
    home.state.record_batch(day=DAY, workflow=WORKFLOW, digest="b", status=BatchStatus.ACCEPTED, **told)
    batches.build(home.settings, home.lake, home.state, DAY, WORKFLOW)


def ran(home: Home, write: Write, **more: Any) -> Synthesised:
    server = Server(write)
    with serving(server.app()) as address:
        writes = Endpoint(f"{address}/v1", "sk-secret", "big", WORKFLOW)
        done = synthesise(
            home.settings, home.lake, home.state, WORKFLOW, (DAY, DAY), writes, **({"now": NOW, "n": 3} | more)
        )
    assert set(server.keys) == {"Bearer sk-secret"}
    assert done.written == done.kept + done.dropped + done.gone
    return done


def test_the_thinnest_slice_is_where_everything_was_rejected(lived: Home) -> None:
    found = slices(lived.settings, lived.lake, lived.state, WORKFLOW, (DAY, DAY), by="team")
    assert (found[0].name, found[0].demonstrations) == ("team=team 2", 0)
    assert {s.name: s.demonstrations > 100 for s in found[1:]} == {"team=team 0": True, "team=team 1": True}
    assert found[0].parents.num_rows > 20
    assert set(found[0].parents["split"].to_pylist()) == {"train"}
    lived.state.record_batch(
        day=DAY, workflow=WORKFLOW, digest="b", status=BatchStatus.HELD, rows=0, quarantined=0, reasons=["x"],
        author="a", run_id=None,
    )  # fmt: skip
    assert slices(lived.settings, lived.lake, lived.state, WORKFLOW, (DAY, DAY), by="team") == []


def test_good_answers_are_kept_marked_and_used_up_to_the_cap(lived: Home) -> None:
    done = ran(lived, right)
    assert done.thin == {"team=team 2": 0}
    assert done.written == 3 * done.parents
    assert done.kept == done.parents
    assert done.reasons == {"written twice": 2 * done.parents}
    assert done.ablation is not None
    kept = [row for row in lived.lake.read("synthetic").to_pylist() if row["status"] == "kept"]
    assert {row["model_version"] for row in kept} == {"endpoint:big"}
    assert {row["slice"] for row in kept} == {"team=team 2"}
    parents = {row["event_id"]: row for row in lived.lake.read("interactions").to_pylist()}
    assert all(row["prompt"] == parents[row["event_id"]]["prompt"] for row in kept)
    assert all('"temperature": 1.0' in row["recipe"] for row in kept)
    [noted] = lived.lake.read("ablations").to_pylist()
    assert (noted["run"], noted["rows"], noted["helps"]) == (done.run, done.kept, done.ablation.helps)


def test_only_what_helps_is_learned_from_and_never_more_than_its_share(lived: Home) -> None:
    share = lived.settings.synthetic_share
    assert not ran(lived, wrong, now=NOW - timedelta(minutes=1)).ablation.helps  # type: ignore[union-attr]
    helpful = ran(lived, right)  # of the same prompts: what does not help stands in nobody's way
    assert helpful.answered == 0
    assert helpful.ablation is not None
    assert helpful.ablation.low is not None
    assert helpful.ablation.helps
    assert cycle.training_set(lived, DAY).synthetic == 0  # of the cycle of the 5th nothing was made by then
    frozen = cycle.training_set(lived, DAY + timedelta(days=1))
    real = frozen.demonstrations - frozen.synthetic
    assert frozen.synthetic == min(helpful.kept, using.most_of(lived.settings, real))
    assert frozen.synthetic > 0
    assert frozen.synthetic <= share * frozen.demonstrations
    rows = dataset.load(lived.settings.training_sets, frozen.digest).demonstrations.to_pylist()
    made = [row for row in rows if row["kind"] == using.KIND]
    assert len(made) == frozen.synthetic
    assert all(row["answer"] == right(row["prompt"][0]["content"], 0) for row in made)


def test_what_a_run_that_helps_has_answered_is_not_answered_again(lived: Home) -> None:
    first = ran(lived, right)
    before = lived.lake.read("synthetic").num_rows
    server = Server(right)
    with serving(server.app()) as address:
        writes = Endpoint(f"{address}/v1", "sk-secret", "big", WORKFLOW)
        later = NOW + timedelta(minutes=1)
        second = synthesise(lived.settings, lived.lake, lived.state, WORKFLOW, (DAY, DAY), writes, now=later)
    assert (second.answered, second.parents, second.written) == (first.parents, 0, 0)
    assert server.asked == []
    assert lived.lake.read("synthetic").num_rows == before


def test_two_runs_that_help_and_answer_the_same_prompt_teach_it_once(lived: Home) -> None:
    """As two that ran at the same time, or before runs left out what was answered."""
    done = ran(lived, right)
    for name in ("synthetic", "ablations"):
        there = lived.lake.read(name)
        again = there.set_column(there.column_names.index("run"), "run", [["again"] * there.num_rows])
        if name == "synthetic":
            ids = [f"z{n}" for n in range(there.num_rows)]
            again = again.set_column(there.column_names.index("synthetic_id"), "synthetic_id", [ids])
        day = there["day"][0].as_py()
        lived.lake.overwrite(name, pa.concat_tables([there, again.cast(there.schema)]), day=day, workflow=WORKFLOW)
    days, cutoff = (DAY, DAY), NOW + timedelta(days=1)
    assert using.helping(lived.lake, days, cutoff).num_rows == 2 * done.kept
    rows = using.rows_for(lived.settings, lived.lake, lived.state, days, cutoff, real=10_000).to_pylist()
    assert len(rows) == done.kept
    assert len({row["prompt"][0]["content"] for row in rows}) == done.kept


def test_a_set_with_too_many_synthetic_rows_is_not_frozen(lived: Home, tmp_path: Any) -> None:
    rows = lived.lake.read("demonstrations")
    at = rows.column_names.index("kind")
    made = rows.set_column(at, rows.schema.field(at), [["synthetic"] * rows.num_rows])
    with pytest.raises(AssertionError, match="synthetic, expected a share of"):
        dataset.freeze(
            made, lived.lake.read("preferences"), root=tmp_path, salt_key=b"k" * 32, meta={}, synthetic_share=0.1
        )


def test_a_scorer_chooses_among_what_passed(lived: Home) -> None:
    done = ran(
        lived,
        lambda prompt, turn: f"{right(prompt, 0)}{'!' * turn}",
        scorer=lambda _, texts: [float(len(text.as_py())) for text in texts],
    )
    kept = [row for row in lived.lake.read("synthetic").to_pylist() if row["status"] == "kept"]
    assert len(kept) == done.parents
    assert {row["answer"][-1] for row in kept} == {"!"}
    assert all(row["score"] == len(row["answer"]) for row in kept)


def test_what_breaks_a_rule_or_is_there_already_is_dropped_by_reason(lived: Home) -> None:
    done = ran(lived, lambda _, turn: ["", "STOP THAT AT ONCE, YOU LOT!!"][turn % 2])
    assert (done.kept, done.ablation) == (0, None)
    # two at first, then the third alone
    assert done.reasons == {
        "nothing was written": 2 * done.parents,
        "rule: length": 2 * done.parents,
        "rule: shouted": done.parents,
        "written twice": done.parents,
    }
    assert lived.lake.read("ablations").num_rows == 0


@pytest.mark.parametrize("status", [401, 503])
def test_a_server_that_refuses_leaves_nothing_and_its_words_are_not_told(lived: Home, status: int) -> None:
    with serving(Server(right, status).app()) as address:
        writes = Endpoint(f"{address}/v1", "sk-secret", "big", WORKFLOW)
        with pytest.raises(LoopError, match=f"cannot write answers now .status {status}.") as refused:
            synthesise(lived.settings, lived.lake, lived.state, WORKFLOW, (DAY, DAY), writes, now=NOW)
    assert "sk-secret" not in str(refused.value)
    assert lived.lake.read("synthetic").num_rows == 0


def test_what_has_an_erased_parent_goes_and_is_not_written_afterwards(lived: Home) -> None:
    done = ran(lived, wrong)  # does not help, so that the same prompts are answered again below
    rows = lived.lake.read("synthetic").to_pylist()
    names = {pseudonym(f"person-{n}", lived.settings.secret("pseudonym")): f"person-{n}" for n in range(61)}
    who = rows[0]["employee"]
    theirs = {row["synthetic_id"] for row in rows if row["employee"] == who}
    report = erase.erase(lived, subject(lived.settings, Kind.EMPLOYEE, names[who]), reason="r", author="a")
    assert report.removed["lake/synthetic"] == len(theirs)
    left = {row["synthetic_id"] for row in lived.lake.read("synthetic").to_pylist()}
    assert left == {row["synthetic_id"] for row in rows} - theirs
    assert done.gone == 0

    def erased_meanwhile(prompt: str, turn: int) -> str:
        gone = lived.lake.read("interactions").slice(0, 0)
        lived.lake.overwrite("interactions", gone, day=DAY, workflow=WORKFLOW)
        return right(prompt, turn)

    late = ran(lived, erased_meanwhile, now=NOW + timedelta(hours=1))
    assert late.parents > 0
    assert (late.written, late.gone, late.kept) == (3 * late.parents, 3 * late.parents, 0)
    assert lived.lake.read("synthetic").num_rows == len(left)
