"""The page on which people label: every kind of task answered over HTTP, and what the database holds afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from loop import schema
from loop.home import Home
from loop.label import annotators, gold
from loop.label.pool import Pool
from loop.label.tasks import Kind, Origin
from loop.services import Urls
from loop.state import State
from tests.gateway.fronts import Running
from tests.gateway.labellers import ask, cleared, enter, join, labelling, question, restarted, stored

Counted = Callable[[str], float]


@pytest.fixture(scope="module")
def shared(postgres_urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Running]]:
    with labelling(postgres_urls, tmp_path_factory.mktemp("labelling")) as made:
        yield made


@pytest.fixture
def home(shared: tuple[Home, Running]) -> Home:
    cleared(*shared)
    return shared[0]


@pytest.fixture
def running(shared: tuple[Home, Running], home: Home) -> Running:
    return shared[1]


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


# -- who may ----------------------------------------------------------------------------------------------------------


def test_nobody_gets_in_without_a_token_of_their_own(home: Home, running: Running) -> None:
    ask(home, question())
    token = join(home)
    for wrong in (
        "",
        "loop_",
        token[:-1],
        token[:-1] + ("0" if token[-1] != "0" else "1"),
        token.upper(),
        "\U0001f600",
    ):
        ann = enter(running, wrong)
        assert ann.page is not None
        assert ann.page.status_code == 401, wrong
        assert "No such token" in ann.text
        assert ann.look("/label").url.path == "/label/login"
    ann = enter(running, token)
    cookie = ann.client.cookies["loop_label"]
    reply = running.client.post("/label/login", data={"token": token})
    assert "HttpOnly; SameSite=Strict" in reply.headers["set-cookie"]
    assert token not in reply.headers["set-cookie"]
    forged = cookie[:-1] + ("0" if cookie[-1] != "0" else "1")
    assert running.client.get("/label", headers={"cookie": f"loop_label={forged}"}).status_code == 303
    ann.send("/label/logout")
    assert ann.note == "You are logged out."
    assert ann.look("/label").url.path == "/label/login"


def test_a_form_of_another_site_is_refused(home: Home, running: Running) -> None:
    ask(home, question())
    ann = enter(running, join(home))
    form = ann.form("/label/answer")["hidden"]
    assert ann.client.post("/label/answer", data={**form, "csrf": "", "label": "1"}).status_code == 403
    assert ann.client.post("/label/answer").status_code == 403
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        reply = ann.client.post("/label/answer", data={**form, "label": "1"}, headers=headers)
        assert reply.status_code == 403
    assert stored(home) == []
    home_ = {"origin": running.url, "sec-fetch-site": "same-origin"}
    assert ann.client.post("/label/answer", data={**form, "label": "1"}, headers=home_).status_code == 200
    assert len(stored(home)) == 1


def test_a_person_answers_only_what_that_person_was_shown(home: Home, running: Running, counted: Counted) -> None:
    ask(home, question(1, wanted=2))
    ann, ben = enter(running, join(home)), enter(running, join(home, "ben"))
    theirs = ann.form("/label/answer")["hidden"]["ticket"]
    reply = ben.send("/label/answer", action="answer", label="1", ticket=theirs)
    assert reply.status_code == 422
    assert "was not shown to you" in ben.text
    assert stored(home) == []
    assert counted("not shown") == 1


def test_whoever_was_removed_is_told_and_the_answer_is_not_counted(
    home: Home, running: Running, counted: Counted
) -> None:
    ask(home, question(1), question(2))
    token = join(home)
    ann = enter(running, token)
    annotators.remove(home.settings, home.state, token, "lead")
    reply = ann.answer(label="1")
    assert reply.status_code == 403
    assert "kept and does not count" in ann.text
    assert [row["counts"] for row in stored(home)] == [False]
    running.front.labelling._follow_people(running.front.labelling._open().state)
    assert ann.look("/label").status_code == 403
    assert enter(running, token).page.status_code == 401  # type: ignore[union-attr]
    assert counted("from a removed annotator") == 1


def test_of_whoever_was_erased_nothing_is_stored(home: Home, running: Running) -> None:
    ask(home, question(1))
    ann = enter(running, join(home))
    with home.state.transaction() as connection:
        connection.execute(home.state.tables["annotators"].delete())
    assert ann.answer(label="1").status_code == 403
    assert "Nothing was stored" in ann.text
    assert stored(home) == []


@pytest.fixture
def counted(running: Running) -> Counted:
    """How often an outcome was counted since."""

    def count(outcome: str) -> float:
        found = running.front.metrics.registry.get_sample_value("loop_gateway_annotations_total", {"outcome": outcome})
        return found or 0.0

    before = {}
    for family in running.front.metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "loop_gateway_annotations_total":
                before[sample.labels["outcome"]] = sample.value
    return lambda outcome: count(outcome) - before.get(outcome, 0.0)


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


# -- what is fair -----------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, running: Running) -> None:
        self.time = datetime.now(UTC).replace(hour=9, minute=0)
        running.front.labelling.now = self

    def __call__(self) -> datetime:
        return self.time


def test_the_days_end_and_a_break_are_told(home: Home, running: Running) -> None:
    clock = Clock(running)
    ask(home, *(question(n) for n in range(20)))
    ann = enter(running, join(home, daily_minutes=60))
    for _ in range(5):
        clock.time += timedelta(minutes=10)
        ann.answer(label="1")
    assert ann.heading == "Time for a break"
    assert f"ready at {clock.time + timedelta(minutes=5):%H:%M} UTC" in ann.text
    clock.time += timedelta(minutes=5)
    assert ann.look().status_code == 200
    clock.time += timedelta(minutes=10)
    ann.answer(label="1")
    assert ann.heading == "That is enough for today"
    assert [row["seconds"] for row in stored(home)] == [600.0] * 6


def test_time_and_pay_are_told_against_the_floor(home: Home, running: Running) -> None:
    ask(home, question())
    settings = home.settings.model_copy(update={"pay_floor_per_hour": 12.0, "pay_currency": "EUR"})
    running.front.labelling.settings = settings
    ann = enter(running, join(home, pay_per_hour=36.0))
    told = " ".join(ann.text.split())
    assert "A task like this takes about 11 s on average: 0.11 EUR at your 36.00 an hour" in told
    assert "(the floor of 12.00 an hour is 0.036)" in told
    assert "of 240 min today" in told


def test_an_answer_after_the_deadline_is_kept_uncounted(home: Home, running: Running, counted: Counted) -> None:
    clock = Clock(running)
    ask(home, question(due_at=clock.time + timedelta(minutes=5)))
    ann = enter(running, join(home))
    clock.time += timedelta(minutes=6)
    ann.answer(label="1")
    assert "the deadline had passed: it is kept and does not count" in ann.note
    assert [(row["counts"], row["seconds"]) for row in stored(home)] == [(False, 360.0)]
    assert counted("after the deadline") == 1


def test_agreement_to_what_can_upset_is_the_persons_own(home: Home, running: Running) -> None:
    ask(home, question(1, harm="<i>hatred</i>"), question(2, harm="gore"))
    ann = enter(running, join(home))
    assert ann.heading == "Nothing is left for you now"
    ann.look("/label/work")
    ann.send("/label/harmful", want="yes")
    assert ann.heading == "Before you see the next text"
    assert "one " not in ann.text.replace("one of", "")
    assert "<i>" not in ann.text
    ann.skip()
    assert ann.note == "Skipped, with your reason."
    (row,) = stored(home)
    assert (row["shown_at"], row["seconds"]) == (None, None)
    ann.send("/label/harmful")
    assert ann.heading == "Nothing is left for you now"
    assert [one.harmful for one in annotators.annotators(home.state)] == [False]


def test_ones_own_work_and_appeal_are_seen_by_nobody_else(home: Home, running: Running) -> None:
    clock = Clock(running)
    rows = ask(home, *(question(n, wanted=2) for n in range(2)))
    for row in rows:
        gold.put(home.state, row, label="tie", reason="experts", author="lead", hidden=False)
    ann, ben = enter(running, join(home)), enter(running, join(home, "ben"))
    for person in (ann, ben):
        for _ in rows:
            clock.time += timedelta(seconds=20)
            person.answer(label="1")
    ann.look("/label/work")
    assert "Nowhere, as far as" in ann.text, "what can still be undone is not judged"
    clock.time += timedelta(minutes=61)
    ann.look("/label/work")
    assert "0 of 2: 0 %, with so few between 0 % and 66 %" in " ".join(ann.text.split())
    ann.send("/label/appeal", argument="write <b>to</b> ann@example.org")
    assert ann.note == "Your appeal is noted. You will find the answer to it here."
    (appeal,) = gold.appeals(home.state)
    assert appeal["argument"] == "write <b>to</b> <EMAIL_ADDRESS_1>"
    task = {"task": appeal["label_task_id"]}
    assert ann.send("/label/appeal", argument="again", **task).status_code == 422
    gold.decide(home.state, appeal["appeal_id"], gold.Verdict.DISMISSED, answer="See <rubric>.", author="lead")
    ann.look("/label/work")
    assert "See &lt;rubric&gt;." in ann.text
    ben.look("/label/work")
    assert "rubric" not in ben.text
    assert "write" not in ben.text


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
