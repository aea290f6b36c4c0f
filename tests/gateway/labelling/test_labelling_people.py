"""The page on which people label: who may, and what each person is told of work, pay, breaks and appeals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from loop.home import Home
from loop.label import annotators, gold
from tests.gateway.fronts import Running
from tests.gateway.labelling.labellers import ask, enter, join, question, stored

Counted = Callable[[str], float]


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
