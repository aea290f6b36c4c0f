"""Presidio's recognisers beside ours: what we have no pattern for, and people's names where a spaCy model is installed.

Importing Presidio takes four seconds and brings spaCy and torch, and each text costs it more than a millisecond: hence
never in the gateway's front, and only where a home asks for it (`privacy = "full"`). Nothing is ever downloaded: a
model counts if it is installed, and Presidio's recogniser of e-mail addresses, which fetches a list of domains on first
use, is left out for ours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from loop.privacy import recognise
from loop.privacy.recognise import Find, Span

THRESHOLD: Final = 0.5
"""Least score that counts. Below it are patterns such as "nine digits", meant to be raised by words beside them."""
PIECE: Final = 5_000
"""Characters that are looked at at a time: what a recogniser does with them stays bounded, whatever the text holds."""
_OURS: Final = frozenset(
    ("EMAIL_ADDRESS", "EMAIL", "URL", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "MAC_ADDRESS")
).union(("CRYPTO", "US_SSN", "US_ITIN", "UK_NHS", "UK_NINO", "IN_PAN"))
_LEFT: Final = frozenset(("DATE_TIME", "LOCATION", "ORGANIZATION", "NRP", "UUID", "AGE", "ID"))
"""No data of one person by themselves, and what texts at work are about."""
_LANGUAGE: Final = "en"
"""The name under which Presidio keeps the recognisers and the model, whatever language that is for."""


def finder() -> Find:
    """What finds personal data by our patterns, Presidio's recognisers and, with a model, by names; see `Find`."""

    def find(text: str) -> list[Span]:
        return recognise.fixpoint(text, lambda left: (*recognise.patterns(left), *_presidios(left)))

    _engine()  # what is wrong with it is told before the first text
    return find


def model() -> str | None:
    """The spaCy model that finds names: an English one if there is, the larger the better; None if none is there."""
    sizes = ("_trf", "_lg", "_md", "_sm")

    def order(name: str) -> tuple[bool, int, str]:
        return not name.startswith("en_"), next((i for i, s in enumerate(sizes) if name.endswith(s)), len(sizes)), name

    return min(recognise.models(), key=order, default=None)


@cache
def _engine() -> Any:
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine()
    name = model()
    pipeline = _words_alone() if name is None else spacy.load(name)
    engine.nlp = {_LANGUAGE: pipeline}  # type: ignore[assignment]  # what its `load` would set after a download
    registry = RecognizerRegistry(supported_languages=[_LANGUAGE])
    registry.load_predefined_recognizers(languages=[_LANGUAGE], nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[_LANGUAGE])


def _words_alone() -> Any:
    """A pipeline without a model: each word is its own lemma, so that Presidio can look for words beside a pattern."""
    import spacy
    from spacy.language import Language
    from spacy.tokens import Doc

    def lemmas(doc: Doc) -> Doc:
        for token in doc:
            token.lemma_ = token.lower_
        return doc

    Language.component("loop_words_alone", func=lemmas)
    pipeline = spacy.blank(_LANGUAGE)
    pipeline.add_pipe("loop_words_alone")
    return pipeline


@cache
def types() -> tuple[str, ...]:
    """What Presidio is asked for."""
    known = set(_engine().get_supported_entities(_LANGUAGE))
    return tuple(sorted(known - _OURS - _LEFT - (set() if model() else {"PERSON"})))


def _presidios(text: str) -> Iterator[Span]:
    for start, end in _pieces(text):
        found = _engine().analyze(text[start:end], _LANGUAGE, entities=list(types()), score_threshold=THRESHOLD)
        for one in found:
            if recognise.BLANK not in text[start + one.start : start + one.end]:
                yield Span(start + one.start, start + one.end, one.entity_type, round(min(one.score, 0.9), 2))


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where the pieces of a text begin and end, cut behind white space where there is any."""
    start = 0
    while start < len(text):
        end = min(len(text), start + PIECE)
        if end < len(text):
            cut = max(text.rfind(blank, start + PIECE // 2, end) for blank in " \n\t")
            end = cut + 1 if cut > 0 else end
        yield start, end
        start = end
