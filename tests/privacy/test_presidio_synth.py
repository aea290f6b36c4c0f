"""The bounds that are promised over `presidio_synth`, for our patterns and with Presidio's recognisers beside them."""

from __future__ import annotations

import importlib.util
import socket
from types import ModuleType
from typing import Any, NoReturn

import pytest

from loop.privacy import presidio
from loop.privacy.recognise import find
from tests.test_docs import ROOT

SPEC = importlib.util.spec_from_file_location("benchmarks_privacy", ROOT / "benchmarks" / "privacy.py")
assert SPEC is not None
assert SPEC.loader is not None
privacy: ModuleType = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(privacy)

PROMISED = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS")
needs_data = pytest.mark.skipif(
    not privacy.DATA.exists(), reason="presidio_synth is not beside the repository (../shared/data)"
)


def keeps_its_promise(told: dict[str, Any]) -> None:
    for type_ in PROMISED:
        if type_ in told["types"]:
            gold, hit, made, right = told["types"][type_]
            assert hit >= 0.95 * gold, (type_, told["types"][type_])
            assert right >= 0.8 * made, (type_, told["types"][type_])
    assert told["outside"] <= 0.02


@needs_data
@pytest.mark.parametrize("part", ["small", "seen", "unseen"])
def test_our_patterns_find_what_they_promise(part: str) -> None:
    keeps_its_promise(privacy.quality(privacy.rows_of(part), find))


@needs_data
def test_the_halves_of_the_large_set_are_halves() -> None:
    seen, unseen = privacy.rows_of("seen"), privacy.rows_of("unseen")
    assert (len(seen), len(unseen)) == (1055, 1054)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Whoever asks for a host is refused and noted."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        asked.append(arguments[0])
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@needs_data
@pytest.mark.slow
def test_presidios_recognisers_add_and_take_nothing_away(offline: list[Any]) -> None:
    full = presidio.finder()
    for part in ("small", "unseen"):
        rows = privacy.rows_of(part)
        keeps_its_promise(privacy.quality(rows, full))
    text = "My driver's license number is U62928788557186, write to jane@example.org"
    assert [(text[s.start : s.end], s.type) for s in find(text)] == [("jane@example.org", "EMAIL_ADDRESS")]
    assert [(text[s.start : s.end], s.type) for s in full(text)] == [
        ("U62928788557186", "US_DRIVER_LICENSE"),
        ("jane@example.org", "EMAIL_ADDRESS"),
    ]
    assert full(text.replace("jane@example.org", "<EMAIL_ADDRESS_1>")) == full(text)[:1]
    assert offline == []


@pytest.mark.slow
def test_names_are_found_by_an_installed_model(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, offline: list[Any]
) -> None:
    """The model is made here, of a list of names: what is tested is that an installed one is found, asked and heard."""
    import spacy

    made = spacy.blank("en")
    made.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Jane Roe"}])  # type: ignore[attr-defined]
    package = tmp_path / "xx_names"
    package.mkdir()
    made.to_disk(package / "data")
    (package / "__init__.py").write_text(
        "import spacy, pathlib\n"
        "def load(**given):\n    return spacy.load(pathlib.Path(__file__).parent / 'data', **given)\n"
    )
    info = tmp_path / "xx_names-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xx-names\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[spacy_models]\nxx_names = xx_names\n")
    (info / "RECORD").write_text("xx_names/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (presidio._engine, presidio.types):
        cached.cache_clear()
    try:
        assert presidio.model() == "xx_names"
        text = "Jane Roe, jane@example.org"
        assert [(s.type, text[s.start : s.end]) for s in presidio.finder()(text)] == [
            ("PERSON", "Jane Roe"),
            ("EMAIL_ADDRESS", "jane@example.org"),
        ]
        assert offline == []
    finally:
        for cached in (presidio._engine, presidio.types):
            cached.cache_clear()


def test_an_english_model_is_taken_before_others_and_a_large_one_before_small_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["de_core_news_lg", "en_core_web_sm", "en_core_web_md"]
    monkeypatch.setattr("loop.privacy.recognise.models", lambda: names)
    assert presidio.model() == "en_core_web_md"
    monkeypatch.setattr("loop.privacy.recognise.models", list)
    assert presidio.model() is None


def test_long_texts_are_looked_at_in_pieces() -> None:
    text = "word " * 3_000 + "x" * 12_000
    pieces = list(presidio._pieces(text))
    assert [start for start, _ in pieces[1:]] == [end for _, end in pieces[:-1]]
    assert (pieces[0][0], pieces[-1][1]) == (0, len(text))
    assert all(end - start <= presidio.PIECE for start, end in pieces)
    assert text[: pieces[0][1]].endswith(" ")
