"""What leaves the house: masked, under ids that say nothing, known items hidden among the others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loop.errors import BadInputError
from loop.home import Home
from loop.label import acceptance, gold, outside, tasks
from loop.label.annotations import Annotation, record
from loop.label.tasks import Kind, Origin
from loop.label.vendor import ledger
from tests.label.vendor.batches import DUE, NOW, PERSON, PLAN, category, exported, filled, known, preference


def test_a_batch_holds_every_task_once_and_says_nothing_of_where_it_is_from(home: Home, tmp_path: Path) -> None:
    rows = filled(home)
    done, batch, lines = exported(home, tmp_path / "out")
    assert (done.sent, done.known) == (20 + PLAN.inspected, PLAN.inspected)
    assert dict(+done.left_out) == {"known, not needed": PLAN.inspected}
    assert [line["item"] for line in lines] == list(batch.items)
    texts = {row["label_task_id"]: row["texts"] for row in rows}
    for line in lines:
        assert set(line) == {"item", "prompt", "texts", "options"}
        assert line["texts"] == texts[batch.items[line["item"]].label_task_id]
    told = (tmp_path / "out" / "tasks.jsonl").read_bytes() + (tmp_path / "out" / "manifest.json").read_bytes()
    for secret in (PERSON, "event-", "2026-01-05", *texts):
        assert secret.encode() not in told
    places = [place for place, line in enumerate(lines) if batch.items[line["item"]].known]
    assert places[0] < 20  # they stand among the others
    assert places != list(range(places[0], places[0] + len(places)))


def test_the_manifest_names_the_file_and_not_the_known_items(home: Home, tmp_path: Path) -> None:
    filled(home)
    done, batch, lines = exported(home, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    digest = hashlib.sha256((tmp_path / "out" / "tasks.jsonl").read_bytes()).hexdigest()
    assert manifest["sha256"] == batch.sha256 == digest
    assert (manifest["batch"], manifest["items"], manifest["due_at"]) == (done.batch_id, len(lines), DUE.isoformat())
    assert set(manifest) == {"batch", "file", "items", "sha256", "kind", "question", "due_at", "answers"}
    noted = home.settings.home / "vendor" / f"{done.batch_id}.json"
    assert noted.stat().st_mode & 0o777 == 0o600


def test_texts_are_masked_though_the_home_masks_nothing(home: Home, tmp_path: Path) -> None:
    filled(home, others=0)
    row = category(99, texts=["write to jane@example.org or +49 30 1234567, jane@example.org"])
    tasks.add(home.lake, home.state, [row])
    off = home.settings.model_copy(update={"privacy": "off"})
    done, _, lines = exported(Home(off, home.lake, home.state, home.registry), tmp_path / "out")
    assert done.masked["EMAIL_ADDRESS"] == 2
    (text,) = (line["texts"][0] for line in lines if line["texts"][0].startswith("write"))
    assert text == "write to <EMAIL_ADDRESS_1> or <PHONE_NUMBER_1>, <EMAIL_ADDRESS_1>"


def test_sides_are_shuffled_and_noted(home: Home, tmp_path: Path) -> None:
    rows = [preference(n) for n in range(40)]
    tasks.add(home.lake, home.state, rows)
    known(home, rows[: PLAN.inspected], "first")
    _, batch, lines = exported(home, tmp_path / "out", workflow="ads", kind=Kind.PREFERENCE)
    first = {row["label_task_id"]: row["texts"][0] for row in rows}
    sides = set()
    for line in lines:
        item = batch.items[line["item"]]
        assert line["texts"][item.swapped] == first[item.label_task_id]
        assert line["options"] == ["first", "second", "tie", "neither"]
        sides.add(item.swapped)
    assert sides == {False, True}


def test_a_second_batch_has_other_ids_and_other_known_items(home: Home, tmp_path: Path) -> None:
    filled(home, others=4)
    _, first, _ = exported(home, tmp_path / "one", most=2)
    _, second, _ = exported(home, tmp_path / "two", most=2)
    assert not set(first.items) & set(second.items)
    asked = [{item.label_task_id for item in batch.items.values()} for batch in (first, second)]
    assert not asked[0] & asked[1]
    tasks.add(home.lake, home.state, [category(n) for n in range(1_000, 1_003)])
    with pytest.raises(
        BadInputError, match=rf"hides {PLAN.inspected} known items, and acme can be given 0 .* `--again`"
    ):
        exported(home, tmp_path / "three")
    done, _, _ = exported(home, tmp_path / "three", again=True)
    assert (done.sent, done.known) == (3 + PLAN.inspected, PLAN.inspected)
    other, _, _ = exported(home, tmp_path / "four", vendor="bolt", most=1)  # who never had any
    assert other.known == PLAN.inspected
    assert sorted(batch.vendor for batch in ledger.batches(home.settings)) == ["acme"] * 3 + ["bolt"]


def test_what_is_not_sent_is_told(home: Home, tmp_path: Path) -> None:
    filled(home, others=5)
    more = [
        category(100, harm="insults"),
        category(101, due_at=NOW),
        category(102, texts=[], images=["a.png"]),
        preference(
            103,
        ),
        category(104, kind=Kind.REWRITE, options=[]),
    ]
    tasks.add(home.lake, home.state, [*more[:3], more[4]])
    done, _, lines = exported(home, tmp_path / "out", most=3)
    assert dict(done.left_out) == {
        "harmful": 1,
        "after its deadline": 1,
        "shows images, which are not sent": 1,
        "of another kind": 1,
        "not drawn": 2,
        "known, not needed": PLAN.inspected,
    }
    assert len(lines) == done.sent == 3 + PLAN.inspected
    _, _, lines = exported(home, tmp_path / "warned", vendor="bolt", harmful=True)
    assert [line["warning"] for line in lines if "warning" in line] == ["insults"]


def test_nobody_is_paid_for_what_is_known_or_has_its_answers_and_no_benchmark_leaves_the_house(
    home: Home, tmp_path: Path
) -> None:
    filled(home, others=5)
    answered, begun, told = (category(n, wanted=2) for n in range(200, 203))
    bench = category(203, origin=Origin.BENCHMARK, event_id=None, employee=None)
    hidden = category(204, origin=Origin.BENCHMARK, event_id=None, employee=None)
    tasks.add(home.lake, home.state, [answered, begun, told, bench, hidden])
    gold.put(home.state, told, label="fine", reason="known in the imported file", author="lead", hidden=False)
    known(home, [hidden], "fine")
    for row, people in ((answered, "xy"), (begun, "x")):
        for person in people:
            name = outside.enlist(home.settings, home.state, person=person, source="import", author="lead")
            said = Annotation(row["label_task_id"], name, NOW, "import", label="spam")
            assert record(home.state, tasks.read(home.lake), [said]).new == 1
    done, batch, _ = exported(home, tmp_path / "out")
    assert dict(done.left_out) == {
        "has its answers": 1,
        "known, and not hidden": 1,
        "of a benchmark": 2,
        "not drawn": 0,
        "known, not needed": PLAN.inspected,
    }
    sent = {item.label_task_id for item in batch.items.values()}
    assert begun["label_task_id"] in sent
    assert not sent & {row["label_task_id"] for row in (answered, told, bench, hidden)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": Kind.SPAN}, "expected one of preference, rating, category"),
        ({"due_at": NOW}, "deadline: expected a time to come"),
        ({"vendor": " "}, "vendor: expected a name"),
        ({"workflow": "design"}, "no category task of design waits"),
        ({"plan": acceptance.plan(acceptable=0.01, limiting=0.06)}, "hides 110 known items, and acme can be given"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(
    home: Home, tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    filled(home, others=2)
    with pytest.raises(BadInputError, match=told):
        exported(home, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
    assert ledger.batches(home.settings) == []


def test_a_folder_in_use_is_left_alone(home: Home, tmp_path: Path) -> None:
    filled(home, others=2)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInputError, match="expected an empty folder"):
        exported(home, tmp_path, random=Random(1))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]
