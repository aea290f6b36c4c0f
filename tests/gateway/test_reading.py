"""The reading process: it says what the front would say, leaves the rest to it, and may be lost at any time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.collect.items import prepare, waiting
from loop.gateway import reading, records
from loop.gateway.reading import WORTH, Asked, Reader
from loop.gateway.records import Names
from loop.gateway.wire import Problem
from tests.gateway.fronts import Running, wait, whole

NAMES = Names(b"stored" * 6, b"compared" * 4)
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made in a test is not of the future in it, however long the tests before took."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


def line(**changes: Any) -> bytes:
    return json.dumps(whole(**changes)).encode()


def answer(*lines: bytes, workflows: tuple[str, ...] = ("ads",)) -> list[Any]:
    return reading.answer(Asked(list(lines), workflows, NAMES.stored, NAMES.compared, NOW))


def by_the_front(given: bytes) -> Any:
    return prepare(records.whole_item(records.read(given), NAMES, NOW))  # type: ignore[arg-type]


def test_a_whole_event_is_read_as_the_front_reads_it() -> None:
    given = line(suggestion_id="elsewhere-9")
    (read,) = answer(given)
    assert read.suggestion_id == "elsewhere-9"
    assert read.item == by_the_front(given) == waiting(read.item.frame)


LEFT = {
    "short": b'{"event_id":"e","suggestion_id":"s","decision":"reject"}',
    "no JSON": b"{",
    "no UTF-8": b'{"candidates":"\xff"}',
    "of ours": line(suggestion_id="s-" + "0" * 32),
    "of another workflow": line(workflow="comms"),
    "says when it was received": line(received_at=NOW.isoformat()),
    "breaks a rule": line(chosen=7),
    "an id twice": line()[:-1] + b',"event_id":"twice"}',
    "a key of the sweep's": line(event_id="ignore:s-1"),
    "nobody": line(employee=" "),
    "too long": line(final_text="x" * 1_000_001),
    "a time that is none in UTC": line(shown_at="0001-01-01T00:00:00+14:00"),
}


@pytest.mark.parametrize("given", LEFT.values(), ids=LEFT.keys())
def test_what_is_not_its_business_is_left_to_the_front(given: bytes) -> None:
    assert answer(given) == [None]


@settings(deadline=None)
@given(st.data())
def test_what_it_reads_the_front_would_take(data: st.DataObject) -> None:
    """No rule is passed by: whatever is spoilt, either both read the same or the front says what is wrong."""
    event = whole()
    for name in data.draw(st.sets(st.sampled_from(sorted(event)), max_size=2)):
        event[name] = data.draw(
            st.sampled_from(["", "x" * 300, -1, 2.5, None, [], [""], "2026-01-01T00:00:00Z", "\u0000", 10**20])
        )
    given = json.dumps(event).encode()
    (read,) = answer(given)
    if read is not None:
        assert read.item == by_the_front(given)
    else:
        with pytest.raises(Problem):
            by_the_front(given)


# -- the process ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def reader() -> AsyncIterator[Reader]:
    """One whose process is there."""
    made = Reader(cores=2)
    try:
        await there(made)
        yield made
    finally:
        made.close()


async def there(made: Reader) -> None:
    for _ in range(2_000):
        if (await ask(made, [line()] * WORTH))[0] is not None:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the reading process did not come")


async def ask(made: Reader, lines: list[bytes]) -> list[Any]:
    return await made.read(lines, ("ads",), NAMES, NOW)


@pytest.mark.slow
def test_many_groups_at_a_time_each_get_their_own_answer() -> None:
    async def go() -> None:
        async with reader() as made:
            groups = [[line(final_text=f"text {n}" * (1 + n % 50)) for _ in range(WORTH)] for n in range(20)]
            groups[3][7] = b"{"
            answers = await asyncio.gather(*(ask(made, group) for group in groups))
        for group, read in zip(groups, answers, strict=True):
            told = [None if one is None else (one.kind, one.item) for one in read]
            assert told == [None if given == b"{" else ("event", by_the_front(given)) for given in group]

    asyncio.run(go())


@pytest.mark.slow
def test_a_lost_process_is_replaced_and_nothing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_RESTART_SECONDS", 0.0)
    monkeypatch.setattr(reading, "PATIENCE", 0.5)

    async def go() -> None:
        async with reader() as made:
            assert made._process is not None
            first = made._process.pid
            os.kill(first, signal.SIGSTOP)
            assert await ask(made, [line()] * WORTH) == [None] * WORTH  # after its patience
            assert made._process is None
            assert not psutil.pid_exists(first)
            await there(made)
            os.kill(made._process.pid, signal.SIGKILL)
            assert await ask(made, [line()] * WORTH) == [None] * WORTH

    asyncio.run(go())


def test_with_one_processor_or_few_lines_there_is_no_process() -> None:
    async def go() -> None:
        for made, lines in ((Reader(cores=1), WORTH), (Reader(cores=8), WORTH - 1)):
            assert await ask(made, [line()] * lines) == [None] * lines
            assert made._process is None

    asyncio.run(go())


@pytest.mark.slow
def test_batches_are_stored_the_same_while_the_reader_comes_goes_and_is_lost(front: Running) -> None:
    sent = []
    for round_ in range(12):
        events = [whole(suggestion_id=f"s{round_}-{n}") for n in range(2 * WORTH)]
        events[5]["chosen"] = 7
        events[6] = events[4]
        reply = front.post("/v1/feedback/batch", b"\n".join(json.dumps(one).encode() for one in events))
        statuses = [result["status"] for result in reply.json()["results"]]
        assert statuses == ["stored"] * 5 + ["rejected", "duplicate"] + ["stored"] * (2 * WORTH - 7)
        sent += [one["event_id"] for at, one in enumerate(events) if at not in {5, 6}]
        process = front.front.collecting.reader._process
        if process is not None and round_ % 5 == 4:
            process.kill()
        elif round_ == 1:
            line_ = front.front.collecting.reader._line
            wait(lambda made=line_: made is None or made.ready)
    assert [event["event_id"] for event in front.stored("event")] == sent


@pytest.mark.slow
def test_it_ends_with_the_front(tmp_path: Any) -> None:
    """Also where the front has no time to say goodbye: its end of the line is closed by the system."""
    code = (
        "import asyncio, sys, time\n"
        "from datetime import UTC, datetime\n"
        "from loop.gateway.reading import Reader, WORTH\n"
        "from loop.gateway.records import Names\n"
        "async def go():\n"
        "    made = Reader(cores=2)\n"
        "    await made.read([b'{}'] * WORTH, ('ads',), Names(b'a', b'b'), datetime.now(UTC))\n"
        "    print(made._process.pid, flush=True)\n"
        "    time.sleep(60)\n"
        "asyncio.run(go())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert psutil.pid_exists(child)
        process.kill()
    wait(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_clock_that_was_set_back_is_no_matter_for_the_reader() -> None:
    late = line(shown_at=(NOW + timedelta(days=2)).isoformat())
    assert answer(late) == [None]
