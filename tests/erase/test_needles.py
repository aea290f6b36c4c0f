"""What is masked stands alone, in words and not in keys; everybody else's values are what they were."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from loop.collect.erasing import Named
from loop.config import Settings
from loop.erase import Kind, databases, files
from loop.erase.needles import MASK, Needles
from loop.erase.plan import Plan
from loop.erase.subject import Subject, subject
from loop.home import Home

ID = "0198c2f0-event-of-hers"


def person(settings: Settings, name: str = "zq") -> Subject:
    return subject(settings, Kind.EMPLOYEE, name)


def needles(settings: Settings, *events: str, name: str = "zq") -> Needles:
    return Needles(person(settings, name), Plan(named=Named(events=set(events))))


def masked(home: Home, *events: str, name: str = "zq") -> dict[str, int]:
    plan = Plan(named=Named(events=set(events)))
    return databases.clean(home, person(home.settings, name), plan, lambda _: None).masked


@pytest.mark.parametrize("short", ["7", "17f7", "12345678901"])
def test_a_short_id_is_looked_for_in_no_text(bare_settings: Settings, short: str) -> None:
    assert not needles(bare_settings, short).within([f"m-{short}", short, f'{{"id": "{short}"}}', f"2026-11-{short}"])


def test_a_part_of_another_id_is_left(bare_settings: Settings) -> None:
    mine = needles(bare_settings, ID)
    for other in (f"{ID}2", f"x{ID}", f"{ID}-2", f"2-{ID}", f"{ID}_b", f"é{ID}"):
        assert mine.mask(f"see {other}.") == f"see {other}."
    for text in (f"see {ID}.", f"({ID})", f"'{ID}'", f"outcome:{ID}", f"a\n{ID}", f"event {ID}"):
        assert mine.mask(text) == text.replace(ID, MASK)
    assert mine.mask(f"{ID} {ID}2") == f"{MASK} {ID}2", "one that is hers and one that is not, in one value"


@pytest.mark.parametrize("name", ["admin", "interactions"[:11], "12"])
def test_a_name_that_may_be_any_word_is_looked_for_in_no_text(bare_settings: Settings, name: str) -> None:
    assert not needles(bare_settings, name=name).within([f"{name} did", name])


def test_json_stays_json_however_deep(bare_settings: Settings) -> None:
    mine = needles(bare_settings, "900000000001", ID)
    inner = json.dumps({"id": ID, "é": "é\n" + ID})
    told = json.dumps({"pid": 900000000001, "id": "900000000001", "inner": inner, ID: [ID + "x"]})
    assert json.loads(mine.mask(told)) == {
        "pid": 900000000001,
        "id": MASK,
        "inner": inner.replace(ID, MASK),
        MASK: [ID + "x"],
    }


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.just(ID), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_masking_json_changes_its_strings_alone(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    def without(one: object) -> object:
        match one:
            case dict():
                return {key: without(inner) for key, inner in one.items()}
            case list():
                return [without(inner) for inner in one]
            case _:
                return MASK if one == ID else one

    mine = needles(Settings(home=tmp_path_factory.getbasetemp() / "needles"), ID)
    for ascii_only in (True, False):
        text = json.dumps({"x": [value]}, ensure_ascii=ascii_only)
        assert json.loads(mine.mask(text)) == {"x": [without(value)]}


def test_keys_paths_scopes_and_digests_of_others_are_never_masked(home: Home) -> None:
    now = datetime.now(UTC)
    token = {"token_id": "admin", "tool": "admin", "secret_hash": "h", "workflows": ["comms"], "created_by": "admin"}
    verdict = {"day": now, "workflow": "comms", "attempt": 1, "digest": ID, "status": "accepted", "rows": 1}
    with home.state.transaction() as connection:
        rows = token | {"scopes": ["feedback", "admin"], "purposes": [], "per_minute": 1, "created_at": now}
        connection.execute(sa.insert(home.state.tables["tokens"]), rows)
        told = {"quarantined": 0, "reasons": [f'row "{ID}" is odd', "other"], "author": ID, "decided_at": now}
        connection.execute(sa.insert(home.state.tables["batches"]), verdict | told)
        connection.execute(sa.text("CREATE TABLE runs (run_uuid text PRIMARY KEY, artifact_uri text, body text)"))
        run = {"key": ID, "path": f"/home/{ID}/artifacts", "body": json.dumps({"pid": 900000000001, "by": ID})}
        connection.execute(sa.text("INSERT INTO runs VALUES (:key, :path, :body)"), run)
    before = {name: home.state.arrow(name).to_pylist() for name in ("tokens", "batches")}
    assert masked(home, ID, "900000000001", "7", name="admin") == {"loop.runs": 1, "loop.batches": 1}
    assert home.state.arrow("tokens").to_pylist() == before["tokens"]
    [batch] = home.state.arrow("batches").to_pylist()
    assert batch == before["batches"][0] | {"reasons": [f'row "{MASK}" is odd', "other"]}
    with home.state.engine.connect() as connection:
        [row] = connection.execute(sa.text("SELECT run_uuid, artifact_uri, body FROM runs")).all()
    assert row == (ID, run["path"], json.dumps({"pid": 900000000001, "by": MASK}))


def test_files_are_masked_in_words_alone_and_settings_not_at_all(bare_settings: Settings) -> None:
    home = Home.__new__(Home)
    object.__setattr__(home, "settings", bare_settings)
    root = bare_settings.make_home()
    settings = {f"{name}": f'key = "{ID}"' for name in ("loop.toml", "services/services.json", "dagster/dagster.yaml")}
    page = json.dumps({"n": 900000000001, "id": ID, "é": "é"}, ensure_ascii=False)
    words = {"services/a.log": f"é {ID}: {ID}x, 7\n", "data_docs/page.json": page}
    for name, text in (settings | words).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    mine = needles(bare_settings, ID, "900000000001", "7")
    assert sorted(files.found(home, mine)) == ["data_docs/page.json", "services/a.log"]
    assert files.clean(home, mine, drop_caches=False) == {"files masked": 2}
    assert files.found(home, mine) == []
    assert {name: (root / name).read_text() for name in settings} == settings
    assert (root / "services/a.log").read_text() == f"é {'*' * len(ID)}: {ID}x, 7\n"
    assert json.loads((root / "data_docs/page.json").read_text()) == {"n": 900000000001, "id": MASK, "é": "é"}
