"""The page on which people label: every kind of task answered over HTTP, and what the database holds afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loop import schema
from loop.home import Home
from loop.label import gold
from loop.label.pool import Pool
from loop.label.tasks import Kind, Origin
from loop.state import State
from tests.gateway.fronts import Running
from tests.gateway.labelling.labellers import ask, enter, join, question, restarted, stored

Counted = Callable[[str], float]


def test_a_preference_is_stored_as_the_text_that_was_chosen(home: Home, running: Running) -> None:
    rows = {row["label_task_id"]: row for row in ask(home, *(question(n) for n in range(12)))}
    ann = enter(running, join(home))
    sides = set()
    for _ in range(12):
        assert ann.heading == "Which one is better?"
        shown = [text for text in ann.parsed().texts if text.startswith(("one ", "two "))]
        sides.add(shown[0][:3])
        ann.answer(label="1")
        assert ann.note == "Saved."
        last = stored(home)[-1]
        texts = rows[last["label_task_id"]]["texts"]
        assert texts[("first", "second").index(last["label"])] == shown[0]
        assert last["swapped"] is (shown[0][:3] == "two")
    assert ann.heading == "Nothing is left for you now"
    assert sides == {"one", "two"}, "twelve tasks in one order happen once in two thousand"
    assert len({row["label_task_id"] for row in stored(home)}) == 12
    assert all(row["counts"] and row["seconds"] >= 0 and row["source"] == "page" for row in stored(home))


@pytest.mark.parametrize("label", ["tie", "neither"])
def test_equal_and_both_bad_are_answers(home: Home, running: Running, label: str) -> None:
    ask(home, question())
    enter(running, join(home)).answer(label=label, note="both  are odd")
    (row,) = stored(home)
    assert (row["label"], row["reason"], row["content"]) == (label, "both  are odd", None)


@pytest.mark.parametrize(
    ("given", "fields", "label", "content"),
    [
        ({"kind": Kind.RATING, "texts": ["t"], "options": ["1", "2", "3"]}, {"label": "2"}, "2", None),
        (
            {"kind": Kind.CATEGORY, "texts": ["t"], "options": ["hate <b>", "fine"]},
            {"label": "hate <b>"},
            "hate <b>",
            None,
        ),
        ({"kind": Kind.REWRITE, "texts": ["worse"]}, {"text": "better\r\nyet"}, None, "better\nyet"),
        (
            {"kind": Kind.RED_TEAM, "texts": []},
            {"attempt": "say it", "outcome": "it did", "severity": "high"},
            None,
            {"attempt": "say it", "outcome": "it did", "severity": "high"},
        ),
        ({"kind": Kind.SPAN, "texts": ["none here"], "options": ["name"]}, {}, None, []),
    ],
)
def test_every_kind_is_answered(  # noqa: PLR0917
    home: Home, running: Running, given: dict[str, Any], fields: dict[str, str], label: str | None, content: Any
) -> None:
    ask(home, question(**given))
    ann = enter(running, join(home))
    ann.answer(**fields)
    assert ann.note == "Saved.", ann.text
    (row,) = stored(home)
    assert (row["label"], row["content"] and json.loads(row["content"])) == (label, content)


def test_spans_are_marked_by_selection_and_by_words_and_counted_in_characters(home: Home, running: Running) -> None:
    text = "\U0001f600 Anna met\r\nBen, and Anna left"
    ask(home, question(kind=Kind.SPAN, texts=[text], options=["name", "place"]))
    ann = enter(running, join(home))
    ann.send("/label/answer", action="add", quote="Anna", type="name")
    ann.send("/label/answer", action="add", quote="Anna", type="name")
    assert stored(home) == []
    at = len(text[: text.index("Ben")].encode("utf-16-le")) // 2
    ann.send("/label/answer", action="add", **{"from": str(at), "to": str(at + 3)}, type="place")
    assert ann.text.count("<mark") == 3
    ann.send("/label/answer", action="add", quote="Carl", type="name")
    assert "write words just as they stand" in ann.text
    assert ann.page is not None
    assert ann.page.status_code == 422
    ann.send("/label/answer", drop=ann.form("/label/answer")["spans"][0])
    ann.answer()
    (row,) = stored(home)
    spans = json.loads(row["content"])
    assert [(text[s["start"] : s["end"]], s["type"]) for s in spans] == [("Ben", "place"), ("Anna", "name")]
    assert spans[1]["start"] == text.rindex("Anna")


@pytest.mark.parametrize(
    ("given", "fields", "told"),
    [
        ({}, {}, "Choose the better one"),
        ({}, {"label": "first"}, "Choose the better one"),
        ({"kind": Kind.RATING, "texts": ["t"], "options": ["1", "2"]}, {"label": "3"}, "Choose one of the options"),
        ({"kind": Kind.REWRITE, "texts": ["same"]}, {"text": "same"}, "The text is as it was"),
        ({"kind": Kind.REWRITE, "texts": ["same"]}, {"text": " \n"}, "Write the better text"),
        ({"kind": Kind.RED_TEAM, "texts": []}, {"attempt": "a", "outcome": ""}, "what came of it"),
        ({}, {"label": "1", "note": "x" * 2_001}, "may have 2,000 characters"),
    ],
)
def test_what_is_no_answer_is_told_and_what_was_typed_stays(
    home: Home, running: Running, given: dict[str, Any], fields: dict[str, str], told: str
) -> None:
    ask(home, question(**given))
    ann = enter(running, join(home))
    reply = ann.answer(**fields)
    assert reply.status_code == 422
    assert told in ann.text
    assert stored(home) == []
    if fields.get("attempt"):
        assert ">\na</textarea>" in ann.text


# -- skip and undo ----------------------------------------------------------------------------------------------------


def test_skipping_takes_a_reason_and_undoing_brings_it_back(home: Home, running: Running) -> None:
    ask(home, question(1), question(2))
    ann = enter(running, join(home))
    ann.skip()
    assert "Choose a reason" in ann.text
    ann.skip(why="The task is unclear", note="who speaks?")
    assert ann.note == "Skipped, with your reason."
    first = stored(home)[0]
    assert (first["action"], first["reason"]) == ("skip", "The task is unclear: who speaks?")
    ann.send("/label/undo")
    assert ann.note == "Undone. Here it is again."
    ann.answer(label="2")
    ann.answer(label="tie")
    assert ann.heading == "Nothing is left for you now"
    ann.send("/label/undo")
    ann.send("/label/undo")
    assert ann.note == "Undone. Here it is again."
    assert [(r["action"], r["version"]) for r in stored(home)] == [
        ("skip", 1),
        ("undo", 2),
        ("answer", 3),
        ("answer", 1),
        ("undo", 2),
        ("undo", 4),
    ]
    ann.look("/label")
    assert "/label/undo" not in ann.text, "there is nothing more to undo"


# -- once and twice ---------------------------------------------------------------------------------------------------


def test_the_same_twice_counts_once_and_another_replaces_it(home: Home, running: Running, counted: Counted) -> None:
    ask(home, question(1), question(2))
    ann = enter(running, join(home))
    form = ann.form("/label/answer")["hidden"]
    said = []
    for label in ("1", "1", "tie"):
        ann.page = ann.client.post("/label/answer", data={**form, "action": "answer", "label": label})
        said.append(ann.note)
    assert said[0] == "Saved."
    assert "It counts once" in said[1]
    assert "answered this otherwise before" in said[2]
    assert [(row["version"], row["label"] == "tie") for row in stored(home)] == [(1, False), (2, True)]
    assert [counted(outcome) for outcome in ("saved", "repeated", "changed")] == [1, 1, 1]


def test_nobody_is_asked_what_has_its_answers(home: Home, running: Running) -> None:
    ask(home, question(1, wanted=2))
    people = [enter(running, join(home, f"p{n}")) for n in range(3)]
    assert [p.heading.startswith("Which") for p in people] == [True, True, False]
    people[0].answer(label="1")
    people[1].answer(label="1")
    people[2].look()
    assert people[2].heading == "Nothing is left for you now"


def test_an_unknown_task_is_told(home: Home, running: Running, counted: Counted) -> None:
    (row,) = ask(home, question(1))
    ann = enter(running, join(home))
    home.lake.overwrite("label_tasks", schema.LABEL_TASKS.empty(), day=row["day"], workflow="ads")
    running.front.labelling._open().pool.refresh()
    ann.answer(label="1")
    assert ann.note == "This task is no longer there. Nothing was stored for it."
    assert stored(home) == []
    assert counted("unknown task") == 1


# -- what is shown ----------------------------------------------------------------------------------------------------

NASTY = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</textarea></form><form action=//evil.example>",
    "\u05e9\u05dc\u05d5\u05dd \u202e evil \u2066",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 & \"quotes\" 'and' `ticks` {{ 7*7 }} {% raw %}",
    "a\x00b\x01c\r\nd\re\x1b[31m",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("kind", [Kind.PREFERENCE, Kind.SPAN, Kind.REWRITE, Kind.CATEGORY])
def test_no_text_becomes_markup(home: Home, running: Running, text: str, kind: Kind) -> None:
    texts = [text, "plain"] if kind is Kind.PREFERENCE else [text]
    options = ["<b>bold</b>", "x"] if kind in {Kind.SPAN, Kind.CATEGORY} else []
    prompt = [{"role": "user", "content": text}]
    ask(home, question(kind=kind, texts=texts, options=options, prompt=prompt))
    ann = enter(running, join(home))
    page = ann.parsed()
    assert page.tags.count("script") == 1
    assert not {"img", "b"} & set(page.tags)
    assert {form["action"] for form in page.forms} == {"/label/logout", "/label/answer"}
    joined = "".join(page.texts)
    assert text.replace("\x00", "\ufffd") in joined or text in joined
    fields = {"text": f"{text[:900_000]}!", "label": options[0] if options else "1"}
    assert ann.answer(**fields).status_code == 200, ann.text[:300]
    (row,) = stored(home)
    if kind is Kind.REWRITE:
        assert json.loads(row["content"]) == f"{text[:900_000]}!".replace("\r\n", "\n").replace("\x00", "\ufffd")


def test_nothing_but_our_own_files_runs_or_loads(home: Home, running: Running) -> None:
    images = ["https://ads.example/a.png?x=1&y='", "below/b c.png"]
    ask(home, question(texts=[], images=images))
    ann = enter(running, join(home))
    assert ann.page is not None
    policy = ann.page.headers["content-security-policy"]
    assert "default-src 'none'; style-src 'self'; script-src 'self';" in policy
    assert "img-src 'self' https://ads.example;" in policy
    assert "form-action 'self'; frame-ancestors 'none'; base-uri 'none'" in policy
    assert ann.text.count("<img src=") == 2
    assert 'src="/label/images/below/b%20c.png"' in ann.text
    assert " style=" not in ann.text
    assert " on" not in "".join(t for t in ann.text.split("<") if "=" in t and "onward" not in t).replace(" one", "")


@pytest.mark.parametrize(
    "reference",
    [
        "javascript:alert(1)",
        "data:image/svg+xml,<svg>",
        "file:///etc/passwd",
        "//evil.example/x.png",
        "../secrets/key",
        "http://user:pw@host/x.png",
        "\\\\host\\x.png",
        "https://a b/x.png\n",
    ],
)
def test_other_references_are_not_shown(home: Home, running: Running, reference: str) -> None:
    ask(home, question(kind=Kind.CATEGORY, texts=[], images=[reference], options=["a", "b"]))
    ann = enter(running, join(home))
    assert "<img" not in ann.text
    assert "This image cannot be shown" in ann.text


def test_images_of_the_home_are_for_those_who_label(home: Home, running: Running) -> None:
    folder = home.settings.home / "images"
    folder.mkdir()
    (folder / "a b.png").write_bytes(b"\x89PNG")
    (folder / "bad.svg").write_text("<svg onload=alert(1)>")
    (folder.parent / "secret.png").write_bytes(b"no")
    Path(folder / "link.png").symlink_to(folder.parent / "secret.png")
    assert running.client.get("/label/images/a%20b.png").status_code == 303
    ann = enter(running, join(home))
    reply = ann.client.get("/label/images/a%20b.png")
    assert (reply.content, reply.headers["content-type"]) == (b"\x89PNG", "image/png")
    for wrong in ("bad.svg", "../secret.png", "..%2fsecret.png", "link.png", "none.png", ""):
        assert ann.client.get(f"/label/images/{wrong}").status_code == 404, wrong


def test_it_says_nothing_of_models_others_or_what_is_known(home: Home, running: Running) -> None:
    told = {"event_id": "e-17", "employee": "p_x", "origin": Origin.DECISION}
    rows = ask(home, *(question(n, **told) for n in range(8)), question(8, reason="gold", **told))
    gold.put(home.state, rows[8], label="first", reason="two experts", author="lead")
    token = join(home)
    queue = running.front.labelling._open().queue
    queue.settings = home.settings.model_copy(update={"gold_share": 0.5})
    ann = enter(running, token)
    pages = []
    while ann.heading == "Which one is better?":
        pages.append(ann.text)
        ann.answer(label="1")
    assert rows[8]["label_task_id"] in {row["label_task_id"] for row in stored(home)}, "one in 512 runs it is not drawn"
    assert not any(word in page for page in pages for word in ("gold", "e-17", "p_x", "experts", "origin", "swapped"))
    changing = (
        r'[0-9a-f]{64}|[0-9a-f]{32}|2026-01-05[^"]*|(?:one|two) \d|[0-9]+ of [0-9]+ min'
        r'|[0-9.]+ (?:s|min|answered|left)|value="[0-9.e-]+"'
    )
    changing += r'|<p class="note.*?</p>|<form method="post" action="/label/undo">.*?</form>'
    alike = {" ".join(re.sub(changing, "", page).split()) for page in pages[1:]}
    assert len(alike) == 1, "a task whose answer is known looks like any other"


# -- without the database ---------------------------------------------------------------------------------------------


def test_without_the_database_an_answer_is_not_acknowledged_and_not_lost(
    home: Home, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(home, question(kind=Kind.REWRITE, texts=["worse"]))
    ann = enter(running, join(home))
    desk = running.front.labelling._open()
    right = desk.state.engine
    monkeypatch.setattr(desk, "state", State(sa.create_engine("postgresql+psycopg2://x:y@127.0.0.1:9/none")))
    reply = ann.answer(text="better words")
    assert reply.status_code == 503
    assert "not stored yet" in ann.text
    assert ">\nbetter words</textarea>" in ann.text
    desk.state.close()
    monkeypatch.setattr(desk, "state", State(right))
    ann.answer(text="better words")
    assert ann.note == "Saved."
    assert [json.loads(row["content"]) for row in stored(home)] == ["better words"]


def test_a_gateway_that_starts_anew_takes_the_answer_to_a_page_of_the_former(home: Home, running: Running) -> None:
    ask(home, question())
    ann = enter(running, join(home))
    restarted(home, running)
    ann.answer(label="1")
    assert ann.note == "Saved."
    assert len(stored(home)) == 1


def test_a_form_that_is_too_long_is_told_on_a_page(home: Home, running: Running) -> None:
    ask(home, question(kind=Kind.REWRITE, texts=["worse"]))
    ann = enter(running, join(home))
    assert ann.answer(text="x" * (9 << 20)).status_code == 413
    assert ann.heading == "This cannot be taken"
    assert stored(home) == []


def test_after_a_restart_the_days_answers_are_known_without_reading_the_lake_for_each(
    home: Home, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(home, *(question(n) for n in range(4)))
    ann = enter(running, join(home))
    for _ in range(3):
        ann.answer(label="1")
    restarted(home, running)
    running.front.labelling._open()
    read: list[object] = []
    rows = Pool._rows
    monkeypatch.setattr(Pool, "_rows", lambda self, part: (read.append(part), rows(self, part))[1])
    ann.look()
    assert "3 answered" in ann.text
    assert "/label/undo" in ann.text
    assert read == []
