"""Payment cards and telephone numbers: which runs of digits are one, by their form, their checksum or their context.

A card is told by Luhn's digit and its issuer. Of a telephone number there is no checksum, and people write it in every
way: forms that hardly anything else has (+49 ..., (0) 30 ..., 555-123-4567 x12) count by themselves; what might as well
be a quantity, a date or an order's number counts only where a word beside it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from loop.privacy.recognise import Span, before

_RUN: Final = re.compile(r"(?:\+ ?|\( ?\+?)?\d[\d ().\-/]{5,}")
"""One class of characters, so a run is walked once."""


def find(text: str) -> Iterator[Span]:
    """Cards and telephone numbers of a text; see `recognise.plain`."""
    runs = [run.span() for run in _RUN.finditer(text) if sum(map(str.isdigit, run[0])) >= _LEAST]
    undated = _DATE.sub(lambda date: "," * len(date[0]), text) if runs else text
    for start, end in runs:
        yield from _cards(text, start, end)
        yield from _phones(undated, start, end)


# -- cards ------------------------------------------------------------------------------------------------------------

_CARD: Final = re.compile(
    r"(?<![\w.])(?:\d{12,19}|\d{4}([ .\-])\d{4}\1\d{4}\1\d{1,7}(?:\1\d{1,3})?|\d{4}([ \-])\d{6}\2\d{4,5})(?!\w)",
    re.ASCII,
)
_ISSUERS: Final = (
    (re.compile(r"4(?:\d{12}|\d{15}|\d{18})"), "Visa"),
    (re.compile(r"(?:5[1-5]|2[2-7])\d{14}"), "Mastercard"),
    (re.compile(r"3[47]\d{13}"), "American Express"),
    (re.compile(r"3(?:0[0-5]|[689]\d)\d{11,16}"), "Diners Club, JCB"),
    (re.compile(r"35\d{14,17}"), "JCB"),
    (re.compile(r"(?:2131|1800)\d{11}"), "JCB, before"),
    (re.compile(r"6(?:011|4[4-9]\d|5\d\d|2\d\d|0\d\d|521|522)\d{12,15}"), "Discover, UnionPay, RuPay"),
    (re.compile(r"(?:50|5[6-9]|6\d)\d{10,17}"), "Maestro"),
)
_OF_CARD: Final = re.compile(
    r"\b(?:(?:credit|debit|bank|payment) ?card|card|visa|master ?card|amex|american express|maestro|discover|diners|"
    r"jcb|cc|kreditkarte|karte|carte|tarjeta|carta|cart[aã]o)\b",
    re.IGNORECASE,
)


def _cards(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _CARD.finditer(text, start, end):
        told, known = match[0], bool(_OF_CARD.search(before(text, match.start())))
        for cut in _ends(told):
            digits = "".join(c for c in told[:cut] if c.isdigit())
            issued = any(pattern.fullmatch(digits) for pattern, _ in _ISSUERS)
            # One in ten numbers passes Luhn's test: of the short ones that nobody calls a card that is too many.
            if 12 <= len(digits) <= 19 and luhn(digits) and (known or (issued and len(digits) >= 14)):
                yield Span(match.start(), match.start() + cut, "CREDIT_CARD", 0.98)
                break


def _ends(told: str) -> list[int]:
    """Where a card may end that is written in groups: behind the last, or behind the one before it."""
    cut = max(told.rfind(" "), told.rfind("-"), told.rfind("."))
    return [len(told), cut] if cut > 0 else [len(told)]


_DOUBLED: Final = str.maketrans("0123456789", "0246813579")


def luhn(digits: str) -> bool:
    """Whether ASCII digits end in the check digit of ISO/IEC 7812-1, annex B; all zeros do not count."""
    even, odd = digits[-1::-2], digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, even + odd)) % 10 == 0 and digits.strip("0") != ""


# -- telephone numbers ------------------------------------------------------------------------------------------------

_PHONE: Final = re.compile(
    r"(?<![\w#$€£¥%])(?<!\w[-/])(?<!\d[.,])(?:\+ ?|\( ?\+?)?\d[\d ().\-/]{5,30}(?<=\d)"
    r"(?:,? ?(?:x|ext\.?|extension|#|app\.?) ?\d{1,6})?(?!\w)",
    re.ASCII | re.IGNORECASE,
)
_DATE: Final = re.compile(
    r"(?<!\d)(?<!\d[-./])(?:(?:19|20)\d\d([-./])(?:1[0-2]|0?[1-9])\1(?:3[01]|[12]\d|0?[1-9])"
    r"|(?:3[01]|[12]\d|0?[1-9])([-./])(?:3[01]|[12]\d|0?[1-9])\2(?:19|20)?\d\d)(?!\d|[-./]\d)",
    re.ASCII,
)
_LETTER: Final = re.compile(r"[a-zA-Z#]")
_EXTENSION: Final = re.compile(r",? ?(?:x|ext\.?|extension|#|app\.?) ?\d{1,6}$", re.IGNORECASE)
_OF_PHONE: Final = re.compile(
    r"(?<!\w)(?:(?:tele)?phones?|tel|telephone|cell(?:phone)?|mobiles?|mob|handy|fax|hotline|whats ?app|sms|voicemail|"
    r"call(?:ing|ed)?|dial(?:ing|ed)?|ring(?:ing)?|text (?:me|us|him|her|them)|reach(?:ed)?|answering|contact|office|"
    r"landline|direct line|my number|number is|(?:his|her|our|your|their) number|t[eé]l[eé]phone|t[eé]l[eé]fono|"
    r"telefon[eoi]?|fono|m[oó]vil|celular|portable|rufnummer|anrufen|appel(?:ez|er)?|llam(?:ar|e)|chiam(?:are|i))(?!\w)",
    re.IGNORECASE,
)
_OF_PHONE_BEHIND: Final = re.compile(
    r"[ \t\-,;:(]{0,4}(?:office|fax|mobile|cell|phone|home|work|tel|handy|direct|voicemail)(?!\w)", re.IGNORECASE
)
_NO_PHONE: Final = re.compile(
    r"(?<!\w)(?:orders?|invoices?|accounts?|licen[sc]e|ids?|isbn|issn|ean|sku|tickets?|ref(?:erence)?|apt|suite|zip|"
    r"postcode|postal|passport|serial|tracking|case|policy|model|part|article|version|ssn|iban|routing|vat|tax|page|pp|doi|"
    r"budget|price|revenue|population|total|sum)\b[^a-zA-Z]{0,3}(?:numbers?|nr|no|nos|is|code|#)?[^a-zA-Z]{0,6}"
    r"(?:is|are|was|of)?[^a-zA-Z\d]{0,3}$",
    re.IGNORECASE,
)
_QUANTITY: Final = re.compile(r"\d{1,3}(?:\.\d{3})+|\d+\.\d+|\d{1,3}(?: 000)+")
_LEAST, _MOST = 7, 15
"""Digits of a telephone number: the fewest of a local one, the most that ITU-T E.164 allows."""
_BARE: Final = 12
"""Most digits that count as one without any separator."""
_GROUPS: Final = 7
_LONGEST_EXTENSION: Final = 6


def _phones(text: str, start: int, end: int) -> Iterator[Span]:
    """Telephone numbers of one run, which is read in pieces of some thirty characters."""
    for match in _PHONE.finditer(text, start, min(len(text), end + 12)):
        # "(call 555 1234)": a bracket that is not closed belongs to the sentence.
        open_ = match[0].startswith("(") and match[0].count("(") > match[0].count(")")
        if match.start() < end:
            yield from _pieces(text, match.start() + open_, match.end())


def _pieces(text: str, start: int, end: int) -> Iterator[Span]:
    """The readings of a piece that are telephone numbers: all of it, or what stands between two of its blanks."""
    words = [match.span() for match in re.finditer(r"[^ ]+", text[start:end])]
    digits = list(accumulate((sum(map(str.isdigit, text[start + a : start + b])) for a, b in words), initial=0))
    at = 0
    while at < len(words):
        head, stop = start + words[at][0], at + 1
        called: bool | None = None
        for last in range(min(len(words), at + _GROUPS), at, -1):
            if digits[last] - digits[at] < _LEAST:
                break
            tail = start + words[last - 1][1]
            if not text[tail - 1].isdigit():
                continue  # a dash behind it is none of it
            if digits[last] - digits[at] > _MOST + _LONGEST_EXTENSION or (form := _form(text[head:tail])) is None:
                continue
            score = 0.8 if _unmistakable(form) else 0.0
            if not score and _may_be(form):
                called = bool(_OF_PHONE.search(before(text, head))) if called is None else called
                score = 0.6 if called or _OF_PHONE_BEHIND.match(text, tail, min(len(text), tail + 16)) else 0.0
            if score and not _NO_PHONE.search(before(text, head)):
                yield Span(head, tail, "PHONE_NUMBER", score)
                stop = last
                break
        at = stop


class _Form(NamedTuple):
    """How something is written that has as many digits as a telephone number."""

    bare: str
    """Without its extension."""
    groups: list[str]
    extended: bool


def _form(told: str) -> _Form | None:
    bare = _EXTENSION.sub("", told) if _LETTER.search(told) else told
    groups = re.findall(r"\d+", bare)
    if not _LEAST <= sum(map(len, groups)) <= _MOST or len(groups) > _GROUPS or bare.count("(") != bare.count(")"):
        return None
    return _Form(bare, groups, bare != told)


def _may_be(form: _Form) -> bool:
    """Whether it is one if something beside it says so."""
    digits = sum(map(len, form.groups))
    return (len(form.groups) > 1 or digits <= _BARE) and not _QUANTITY.fullmatch(form.bare)


def _unmistakable(form: _Form) -> bool:  # noqa: PLR0911 - one form after the other
    """Whether hardly anything but a telephone number is written like that."""
    bare, groups, first = form.bare, form.groups, form.groups[0]
    digits = sum(map(len, groups))
    if bare.startswith(("+", "(+", "( +")):
        return digits >= 8
    if len(groups) == 1:
        return False
    if form.extended:
        return True
    if re.match(r"\( ?\d{2,5} ?\)[ \-./]?\d", bare):
        return digits <= 12
    american = groups[1:] if len(groups) == 4 and first == "1" else groups
    if [len(group) for group in american] == [3, 3, 4]:
        return bare[-5] in "-." or (american[0][0] > "1" and american[1][0] > "1")
    decimal = len(groups) == 2 and "." in bare
    if first.startswith("00"):
        return digits >= 10 and not decimal
    if first.startswith("0") and len(first) > 1:
        return 9 <= digits <= 12 and not decimal and len(groups) <= 6
    return False
