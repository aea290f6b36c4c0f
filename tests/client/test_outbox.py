from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loop.client import OutboxError, OutboxFullError, Refusal
from loop.client.outbox import START, Outbox, Place
from loop.client.wire import Item

ALL = (1 << 40, 1 << 40)


def item(number: int, text: str = "x") -> Item:
    return Item("feedback", f"k{number}", f'{{"event_id":"k{number}","final_text":"{text}"}}'.encode())


def keys(outbox: Outbox) -> list[str]:
    return [entry.item.key for entry in outbox.waiting(*ALL) if entry.item]


def test_what_is_appended_waits_in_order_and_whole(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    places = [outbox.append(item(n, "ü\\n€")) for n in range(3)]
    assert places == sorted(places)
    assert [(e.item, e.end) for e in outbox.waiting(*ALL)] == [(item(n, "ü\\n€"), places[n]) for n in range(3)]
    assert [e.end for e in outbox.waiting(2, 1 << 20)] == places[:2]
    assert [e.end for e in outbox.waiting(9, 1)] == places[:1]


def test_what_is_done_is_deleted_and_its_place_is_never_given_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    first = outbox.append(item(1))
    outbox.advance(first)
    assert list((tmp_path / "o").glob("*.jsonl")) == []
    assert outbox.cursor() == first == Place(1, len(b'{"kind":"feedback","key":"k1","body":}\n') + len(item(1).body))
    assert outbox.append(item(2)).segment == 2
    outbox.advance(START)
    assert keys(outbox) == ["k2"]


def test_segments_roll_and_go_one_by_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o", segment_bytes=100)
    places = [outbox.append(item(n)) for n in range(5)]
    assert [p.segment for p in places] == [1, 1, 2, 2, 3]
    outbox.advance(places[2])
    assert sorted(p.name for p in (tmp_path / "o").glob("0*.jsonl")) == ["000000000002.jsonl", "000000000003.jsonl"]
    assert keys(outbox) == ["k3", "k4"]
    assert keys(Outbox(tmp_path / "o")) == ["k3", "k4"]


def test_a_torn_line_is_not_read_and_is_cut_off_by_the_next(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    outbox.append(item(1))
    with (tmp_path / "o" / "000000000001.jsonl").open("ab") as file:
        file.write(b'{"kind":"feedback","key":"k2"')
    assert keys(outbox) == ["k1"]
    outbox.append(item(3))
    assert keys(outbox) == ["k1", "k3"]


def test_a_torn_line_longer_than_what_is_looked_at_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    outbox.append(item(1, "y" * 100_000))
    with (tmp_path / "o" / "000000000001.jsonl").open("ab") as file:
        file.write(b"z" * 100_000)
    outbox.append(item(2))
    assert keys(outbox) == ["k1", "k2"]


def test_a_lost_cursor_sends_again_and_leaves_nothing_out(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    places = [outbox.append(item(n)) for n in range(3)]
    outbox.advance(places[0])
    assert keys(outbox) == ["k1", "k2"]
    (tmp_path / "o" / "cursor").write_text("")
    assert keys(outbox) == ["k0", "k1", "k2"]


def test_a_segment_shorter_than_its_cursor_is_not_appended_to(tmp_path: Path) -> None:
    """After a power cut the cursor may have reached the disk and the end of the segment not."""
    outbox = Outbox(tmp_path / "o")
    places = [outbox.append(item(n)) for n in range(3)]
    outbox.advance(places[1])
    os.truncate(tmp_path / "o" / "000000000001.jsonl", 10)
    assert outbox.append(item(3)).segment == 2
    assert keys(outbox) == ["k3"]


def test_a_full_outbox_says_so_and_writes_nothing(tmp_path: Path) -> None:
    size = len(item(1).body) + len(b'{"kind":"feedback","key":"k1","body":}\n')
    outbox = Outbox(tmp_path / "o", limit_bytes=2 * size)
    places = [outbox.append(item(n)) for n in (1, 2)]
    message = f"is full: {2 * size} bytes wait for the gateway and 0 bytes are set aside, of {2 * size}"
    with pytest.raises(OutboxFullError, match=message):
        outbox.append(item(3))
    assert keys(outbox) == ["k1", "k2"]
    outbox.advance(places[0])
    outbox.append(item(3))
    assert keys(outbox) == ["k2", "k3"]


def test_what_is_refused_is_kept_with_its_reason_restored_or_discarded(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    for n in (1, 2):
        outbox.append(item(n))
    first, second = outbox.waiting(*ALL)
    outbox.set_aside(first, 422, 'expected "this"\ngot that')
    outbox.set_aside(first, 422, "once more, after a kill")
    outbox.advance(first.end)
    assert outbox.refused() == [Refusal("k1", "feedback", 422, 'expected "this"\ngot that')]
    assert outbox.counts()[:2] == (1, 1)
    assert outbox.restore() == 1
    assert outbox.refused() == []
    assert [e.item for e in outbox.waiting(*ALL)] == [item(2), item(1)]
    outbox.set_aside(second, 404, "unknown")
    assert outbox.discard() == 1
    assert (outbox.refused(), outbox.restore(), outbox.discard()) == ([], 0, 0)


def test_what_is_set_aside_counts_towards_the_bound(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o", limit_bytes=300)
    outbox.append(item(1, "x" * 100))
    (entry,) = outbox.waiting(*ALL)
    outbox.set_aside(entry, 422, "no")
    outbox.advance(entry.end)
    with pytest.raises(OutboxFullError, match="0 bytes wait for the gateway and 202 bytes are set aside"):
        outbox.append(item(2, "x" * 100))


def test_an_unreadable_line_is_an_entry_without_an_item_and_is_set_aside_whole(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o")
    outbox.append(item(1))
    with (tmp_path / "o" / "000000000001.jsonl").open("ab") as file:
        file.write(b'{"kind":"other","key":"k","body":{}}\n\xff\n')
    outbox.append(item(2))
    entries = outbox.waiting(*ALL)
    assert [e.item for e in entries] == [item(1), None, None, item(2)]
    outbox.set_aside(entries[2], 0, "cannot be read")
    assert outbox.refused() == [Refusal("", "unreadable", 0, "cannot be read")]
    assert b"\\\\xff" in (tmp_path / "o" / "refused.jsonl").read_bytes()
    with (tmp_path / "o" / "refused.jsonl").open("ab") as file:
        file.write(b"garbage\n{torn")
    assert [r.reason for r in outbox.refused()] == ["cannot be read", "the line of what was set aside is damaged"]
    outbox.set_aside(entries[0], 422, "no")
    assert outbox.refused()[-1] == Refusal("k1", "feedback", 422, "no")


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "deep" / "o")
    outbox.append(item(1))
    assert stat.S_IMODE((tmp_path / "deep" / "o").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "deep" / "o" / "000000000001.jsonl").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxError, match=r"expected to read and write the outbox .*file/o, got Not a directory"):
        Outbox(tmp_path / "file" / "o")
    outbox = Outbox(tmp_path / "o")
    (tmp_path / "o" / "000000000001.jsonl").mkdir()
    (tmp_path / "o" / "000000000001.jsonl" / "in").write_text("")
    with pytest.raises(OutboxError, match="Is a directory"):
        outbox.append(item(1))


def test_one_sender_at_a_time(tmp_path: Path) -> None:
    one, other = Outbox(tmp_path / "o"), Outbox(tmp_path / "o")
    with one.sending() as first, other.sending() as second:
        assert (first, second) == (True, False)
    with other.sending() as second:
        assert second


def test_threads_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    def work(base: int) -> None:
        mine = Outbox(tmp_path / "o", segment_bytes=500)
        for n in range(20):
            mine.append(item(base + n))

    threads = [threading.Thread(target=work, args=(100 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = keys(Outbox(tmp_path / "o"))
    assert sorted(found) == sorted(f"k{100 * t + n}" for t in range(4) for n in range(20))
    for t in range(4):
        mine = [k for k in found if 100 * t <= int(k[1:]) < 100 * t + 20]
        assert mine == [f"k{100 * t + n}" for n in range(20)]


class Model(RuleBasedStateMachine):
    """The outbox against a list: whatever is torn, lost or reopened, it waits for exactly what is not done."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "o"
        self.queue: list[Item] = []
        self.aside: list[Item] = []
        self.again: list[Item] = []
        """Done, but sent again since the cursor was lost."""
        self.number = 0

    @initialize(size=st.integers(1, 400))
    def open(self, size: int) -> None:
        self.outbox = Outbox(self.folder, segment_bytes=size)

    @rule(text=st.text(st.characters(codec="ascii", exclude_characters='"\\', exclude_categories=["C"]), max_size=50))
    def append(self, text: str) -> None:
        self.number += 1
        self.outbox.append(item(self.number, text))
        self.queue.append(item(self.number, text))

    @precondition(lambda self: self.queue)
    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        entries = self.outbox.waiting(count, 1 << 20)
        assert [e.item for e in entries] == self.queue[:count]
        self.outbox.advance(entries[-1].end)
        del self.queue[:count]

    @precondition(lambda self: self.queue)
    @rule()
    def refuse(self) -> None:
        (entry,) = self.outbox.waiting(1, 1)
        self.outbox.set_aside(entry, 422, "no")
        self.outbox.advance(entry.end)
        self.aside.append(self.queue.pop(0))

    @rule()
    def restore(self) -> None:
        assert self.outbox.restore() == len(self.aside)
        self.queue += self.aside
        self.aside.clear()

    @rule(torn=st.binary(min_size=1, max_size=60).map(lambda b: b.replace(b"\n", b"")))
    def killed_while_appending(self, torn: bytes) -> None:
        segments = sorted(self.folder.glob("0*.jsonl"))
        if segments:
            with segments[-1].open("ab") as file:
                file.write(torn)

    @rule(size=st.integers(1, 400))
    def another_process(self, size: int) -> None:
        self.outbox = Outbox(self.folder, segment_bytes=size)

    @rule()
    def cursor_lost(self) -> None:
        (self.folder / "cursor").unlink(missing_ok=True)
        waiting = [e.item for e in self.outbox.waiting(*ALL)]
        again = len(waiting) - len(self.queue)
        assert waiting[again:] == self.queue
        if again:  # the sender sends these twice; the gateway knows their keys
            self.outbox.advance(self.outbox.waiting(again, 1 << 40)[-1].end)

    @invariant()
    def waits_for_what_is_not_done(self) -> None:
        assert [e.item for e in self.outbox.waiting(*ALL)] == self.queue
        assert [r.key for r in self.outbox.refused()] == [i.key for i in self.aside]

    def teardown(self) -> None:
        self.temporary.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
