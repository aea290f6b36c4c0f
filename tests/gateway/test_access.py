"""Who may: tokens in a real Postgres, the gate that knows them by heart, the rate that is exact."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from loop.config import Settings
from loop.errors import BadInputError
from loop.gateway import access
from loop.gateway.access import Bucket, Gate, Refused, Token
from loop.services import down, session
from loop.state import State

SECOND = 10**9


@pytest.fixture
def state(settings: Settings) -> Iterator[State]:
    with session(settings) as urls:
        opened = State.open(urls.loop)
        yield opened
        opened.close()


@pytest.fixture
def gate(settings: Settings, state: State) -> Iterator[Gate]:
    opened = Gate(settings)
    yield opened
    opened.close()


def make(state: State, **changes: object) -> str:
    given = {"tool": "ads desk", "workflows": ["ads"], "scopes": ["suggest", "feedback"], "author": "ann"}
    return access.create(state, **{**given, **changes})  # type: ignore[arg-type]


def refused(ask: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refused) as error:
        ask()
    return error.value.status, str(error.value)


def wait(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


# -- tokens in the database -------------------------------------------------------------------------------------------


def test_a_token_is_kept_as_a_hash_only(state: State) -> None:
    token = make(state, purposes=["training"], per_minute=60)
    _, token_id, secret = token.split("_")
    assert (len(token_id), len(secret)) == (12, 64)
    (row,) = state.arrow("tokens").to_pylist()
    assert row["secret_hash"] == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in json.dumps(row, default=str)
    (told,) = access.tokens(state)
    assert (told.token_id, told.tool, told.workflows, told.scopes) == (
        token_id,
        "ads desk",
        ("ads",),
        ("suggest", "feedback"),
    )
    assert (told.purposes, told.per_minute, told.created_by, told.revoked_at) == (("training",), 60, "ann", None)
    (act,) = state.arrow("audit").to_pylist()
    assert (act["actor"], act["action"], act["subject"]) == ("ann", "token.create", token_id)
    assert json.loads(act["detail"]) == {
        "tool": "ads desk",
        "workflows": ["ads"],
        "scopes": ["suggest", "feedback"],
        "purposes": ["training"],
        "per_minute": 60,
    }


def test_no_two_tokens_are_alike_and_names_come_in_one_order(state: State) -> None:
    made = [make(state, scopes=["outcomes", "suggest", "suggest"], workflows=["comms", "ads"]) for _ in range(5)]
    assert len(set(made)) == 5
    assert {(t.scopes, t.workflows, t.purposes) for t in access.tokens(state)} == {
        (("suggest", "outcomes"), ("ads", "comms"), ())
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"workflows": ["cooking"]}, "workflow: expected some of ads, moderation, design, comms, got 'cooking'"),
        ({"workflows": []}, "workflow: expected at least one of ads"),
        ({"scopes": ["everything"]}, "scope: expected some of suggest, feedback, outcomes, admin, erase, got"),
        ({"scopes": []}, "scope: expected at least one"),
        ({"purposes": ["resale"]}, "purpose: expected some of training, evaluation, got 'resale'"),
        ({"tool": "  "}, "tool: expected a name"),
        ({"tool": "a\nb"}, "tool: expected a name"),
        ({"tool": "a" * 101}, "tool: expected a name"),
        ({"per_minute": 0}, "per minute: expected 1 to 1,000,000,000 requests, got 0"),
    ],
)
def test_a_wrong_token_is_not_made(state: State, changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        make(state, **changes)
    assert access.tokens(state) == []
    assert state.arrow("audit").num_rows == 0


def test_a_token_is_ended_once_by_its_id_or_whole(state: State) -> None:
    kept, whole, by_id = make(state), make(state), make(state)
    first = access.revoke(state, by_id.split("_")[1], "ben")
    assert first.revoked_by == "ben"
    assert access.revoke(state, by_id.split("_")[1], "carol") == first, "the first end counts"
    assert access.revoke(state, f" {whole} ", "ben").token_id == whole.split("_")[1]
    assert [t.token_id for t in access.tokens(state) if t.revoked_at is None] == [kept.split("_")[1]]
    acts = sorted((a["action"], a["actor"], a["subject"]) for a in state.arrow("audit").to_pylist())
    assert [act for act in acts if act[0] == "token.revoke"] == sorted(
        ("token.revoke", "ben", t.split("_")[1]) for t in (whole, by_id)
    )
    with pytest.raises(BadInputError, match="loop token list") as error:
        access.revoke(state, f"loop_{'0' * 12}_{'1' * 64}", "ben")
    assert "1111" not in str(error.value)


def test_a_rotation_is_audited(settings: Settings, state: State, gate: Gate) -> None:
    before = settings.secret("pseudonym")
    assert gate.pseudonym_key == before
    assert access.rotate(settings, state, "ann") == 1
    (act,) = state.arrow("audit").to_pylist()
    assert (act["actor"], act["action"], act["subject"]) == ("ann", "pseudonym.rotate", "pseudonym")
    assert json.loads(act["detail"]) == {"retired": 1}
    assert gate.refresh()
    assert gate.pseudonym_key == settings.secret("pseudonym") != before


# -- the gate ---------------------------------------------------------------------------------------------------------


def test_a_token_opens_what_it_names_and_nothing_else(state: State, gate: Gate) -> None:
    token = f"Bearer {make(state, workflows=['ads', 'comms'])}"
    assert gate.refresh()
    admitted = gate.admit(token, "suggest")
    assert isinstance(admitted, Token)
    assert (admitted.tool, admitted.scopes) == ("ads desk", ("suggest", "feedback"))
    assert gate.admit(token.replace("Bearer", "bearer  "), "feedback") == admitted
    assert refused(lambda: gate.admit(token, "outcomes")) == (
        403,
        "expected a token with the scope outcomes, this one has suggest, feedback",
    )


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic {}",
        "{}",
        "Bearer {} x",
        "Bearer x{}",
        "Bearer {}0",
        "Bearer {}\n",
        "\xff{}",
    ],
)
def test_what_is_no_token_is_not_known(state: State, gate: Gate, header: str | None) -> None:
    token = make(state)
    gate.refresh()
    status, message = refused(lambda: gate.admit(header and header.format(token), "suggest"))
    assert status == 401
    assert token not in message


def test_another_secret_under_a_known_id_is_not_known(state: State, gate: Gate) -> None:
    first, second = make(state), make(state)
    gate.refresh()
    mixed = "_".join([*first.split("_")[:2], second.split("_")[2]])
    shouted = first.upper().replace("LOOP", "loop")
    for wrong in (mixed, shouted, f"loop_{'0' * 12}_{first.split('_')[2]}"):
        assert refused(lambda wrong=wrong: gate.admit(f"Bearer {wrong}", "suggest"))[0] == 401


@given(st.text())
def test_garbage_is_refused_and_nothing_else(header: str) -> None:
    assert refused(lambda: GARBAGE.admit(header, "suggest"))[0] == 401


class _Known(Gate):
    """A gate that has read an empty list of tokens; it needs no database."""

    def __init__(self) -> None:
        self._live, self._read_at = {}, 0.0


GARBAGE = _Known()


def test_a_revoked_token_is_out_within_three_seconds(state: State, gate: Gate) -> None:
    token = make(state)
    gate.start()
    gate.admit(f"Bearer {token}", "suggest")
    access.revoke(state, token, "ben")
    began = time.monotonic()

    def out() -> bool:
        try:
            gate.admit(f"Bearer {token}", "suggest")
        except Refused as error:
            return error.status == 401
        return False

    wait(out, 3.0)
    again = make(state)
    wait(lambda: again.split("_")[1] in gate._live, 3.0)
    assert gate.age_s < 3.0
    assert time.monotonic() - began < 6.0


def test_a_gate_that_never_read_any_says_that_it_is_not_known_yet(bare_settings: Settings) -> None:
    gate = Gate(Settings(home=bare_settings.home, postgres_url="postgresql://u:hunter2@127.0.0.1:1/none"))  # type: ignore[arg-type]
    gate.start()
    try:
        assert gate.age_s == math.inf
        assert gate.problem is not None
        assert "hunter2" not in gate.problem
        with pytest.raises(Refused) as error:
            gate.admit(f"Bearer loop_{'0' * 12}_{'1' * 64}", "suggest")
        assert (error.value.status, error.value.retry_after) == (503, 5)
    finally:
        gate.close()


@pytest.mark.slow
def test_postgres_goes_and_the_gate_goes_on(bare_settings: Settings) -> None:
    """Tokens outlive their database, in memory and over a restart of the gateway; and its return is noticed."""
    with session(bare_settings) as urls:
        state = State.open(urls.loop)
        token, other = make(state), make(state, tool="other")
        access.revoke(state, other, "ben")
        state.close()
        first = Gate(bare_settings, every=0.1)
        first.start()
        first.admit(f"Bearer {token}", "suggest")
        assert down(bare_settings) == ["postgres"]
        wait(lambda: first.problem is not None, 5.0)
        aged = first.age_s
        time.sleep(0.5)
        assert first.age_s >= aged + 0.4
        first.admit(f"Bearer {token}", "suggest")
        first.close()

        second = Gate(bare_settings, every=0.1)
        began = time.monotonic()
        second.start()
        assert time.monotonic() - began < 4.0
        assert second.problem is not None
        assert aged < second.age_s < 60.0
        second.admit(f"Bearer {token}", "suggest")
        assert refused(lambda: second.admit(f"Bearer {other}", "suggest"))[0] == 401
        with session(bare_settings):
            wait(lambda: second.problem is None and second.age_s < 1.0, 10.0)
        second.close()
    down(bare_settings)


def test_the_snapshot_holds_hashes_of_live_tokens_for_the_owner_alone(
    settings: Settings, state: State, gate: Gate
) -> None:
    live, ended = make(state), make(state)
    access.revoke(state, ended, "ben")
    before = os.umask(0)
    try:
        assert gate.refresh()
    finally:
        os.umask(before)
    file = settings.gateway / "tokens.json"
    assert [stat.S_IMODE(p.stat().st_mode) for p in (file, file.parent)] == [0o600, 0o700]
    text = file.read_text()
    assert live.split("_")[1] in text
    assert ended.split("_")[1] not in text
    assert live.split("_")[2] not in text
    os.utime(file, (1, 1))
    inode = file.stat().st_ino
    assert gate.refresh()
    assert time.time() - file.stat().st_mtime < 5.0, "the time of the last reading"
    assert file.stat().st_ino == inode, "not written again where nothing changed"


@pytest.mark.parametrize("content", [b"", b"{", b"[]\xff", b'[{"token": 1}]'])
def test_a_broken_snapshot_is_none(settings: Settings, state: State, gate: Gate, content: bytes) -> None:
    settings.gateway.mkdir(parents=True)
    (settings.gateway / "tokens.json").write_bytes(content)
    gate._load()
    assert gate.age_s == math.inf
    token = make(state)
    assert gate.refresh()
    gate.admit(f"Bearer {token}", "suggest")


def test_a_database_without_its_tables_is_said(settings: Settings, state: State, gate: Gate) -> None:
    with state.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE tokens RENAME TO elsewhere"))
    assert not gate.refresh()
    assert gate.problem == 'relation "tokens" does not exist'


# -- the rate ---------------------------------------------------------------------------------------------------------


def test_a_token_has_its_rate_and_says_when_to_come_again(state: State, gate: Gate) -> None:
    slow, other = f"Bearer {make(state, per_minute=60)}", f"Bearer {make(state)}"
    gate.refresh()
    now = time.monotonic_ns()
    for _ in range(11):  # a sixth of a minute's, and one
        gate.admit(slow, "suggest", now)
    for _ in range(2):
        with pytest.raises(Refused) as error:
            gate.admit(slow, "suggest", now)
        assert (error.value.status, error.value.retry_after) == (429, 1)
    gate.admit(other, "suggest", now)
    assert gate.refresh()
    assert refused(lambda: gate.admit(slow, "suggest", now))[0] == 429, "reading again fills no bucket"
    assert refused(lambda: gate.admit(slow, "outcomes", now))[0] == 403
    gate.admit(slow, "suggest", now + SECOND)
    assert refused(lambda: gate.admit(slow, "suggest", now + SECOND))[0] == 429


@hypothesis.settings(deadline=None)
@given(
    st.integers(1, 10_000),
    st.lists(st.integers(0, 90 * SECOND) | st.integers(0, 10**6), min_size=1, max_size=300),
)
def test_the_bucket_is_exact(per_minute: int, pauses: list[int]) -> None:
    """Against fractions that never round; and where it refuses, the wait that it names is the shortest that helps."""
    bucket = Bucket(per_minute, 0)
    most = level = Fraction(per_minute, 6) + 1
    now = 0
    for pause in pauses:
        now += pause
        level = min(most, level + Fraction(pause * per_minute, 60 * SECOND))
        wait = bucket.take(now)
        assert (wait == 0) == (level >= 1)
        if wait == 0:
            level -= 1
        else:
            assert level + Fraction(wait * per_minute, 60 * SECOND) >= 1
            assert level + Fraction((wait - 1) * per_minute, 60 * SECOND) < 1


@hypothesis.settings(deadline=None)
@given(st.integers(1, 600), st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=400))
def test_no_minute_lets_more_through_than_its_rate_and_one_burst(per_minute: int, pauses: list[int]) -> None:
    bucket, now, passed = Bucket(per_minute, 0), 0, []
    for pause in pauses:
        now += pause
        if bucket.take(now) == 0:
            passed.append(now)
    for start in passed:
        inside = sum(start <= at < start + 60 * SECOND for at in passed)
        assert inside <= per_minute + per_minute / 6 + 1


def test_a_clock_that_stands_or_goes_back_fills_nothing() -> None:
    bucket = Bucket(1, 100 * SECOND)
    assert bucket.take(100 * SECOND) == 0
    assert bucket.take(100 * SECOND) == 50 * SECOND
    assert bucket.take(10 * SECOND) == 50 * SECOND
    assert bucket.take(150 * SECOND) == 0
