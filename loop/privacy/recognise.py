"""Where a text holds personal data: spans by pattern and checksum, and which recognisers a home has asked for.

What is said here about a single text holds in time linear in its length, whatever it holds: every pattern is bounded
or walks one class of characters. Phones and cards stand in `numbers.py`, Presidio's recognisers in `presidio.py`;
what is put in the place of a span is the business of `masking.py`.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, NamedTuple

from loop.errors import BadInputError

MODES: Final = ("patterns", "full", "off")
"""What a home may ask for: our recognisers; Presidio's as well; none."""
PASSES: Final = 4
"""Most times that a text is looked at: what was found may have hidden its neighbour."""


class Span(NamedTuple):
    """Personal data at `text[start:end]`, in code points. The types are Presidio's names."""

    start: int
    end: int
    type: str
    score: float
    """From 0 to 1: a checksum or an unmistakable form is near 1, a form that only its context betrays 0.6."""


Find = Callable[[str], list[Span]]
"""The spans of a text: in order, none overlapping another."""


def recogniser(mode: str) -> Find | None:
    """What finds personal data in a home that asks for this; None if it asks for nothing.

    Raises:
        BadInputError: there is no such mode.
    """
    match mode:
        case "patterns":
            return find
        case "full":
            from loop.privacy import presidio

            return presidio.finder()
        case "off":
            return None
    raise BadInputError(f"privacy: expected one of {', '.join(MODES)}, got {mode!r}")


def models() -> list[str]:
    """The spaCy models that are installed, as `spacy.util.get_installed_models`, but without importing spaCy."""
    return sorted({found.name for found in entry_points(group="spacy_models")})


# -- which texts are worth a look -------------------------------------------------------------------------------------

SUSPICIOUS: Final = (
    "[@\N{FULLWIDTH COMMERCIAL AT}]"
    r"|://|[wW]{3}\."
    r"|[^\P{Nd}0-9]"  # digits that are not ASCII; as part of a longer pattern they cost a hundred times as much
    r"|[0-9](?:[^A-Za-z0-9<>\n]{0,3}[0-9]){6}"  # seven digits in a row, more or less: cards, phones, identities
    r"|[A-Za-z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2}|[0-9]{6}[-+A-Fa-fU-Yu-y][0-9]{3}"  # Britain's and Finland's identities
    r"|[0-9]\.[0-9]{1,3}\.[0-9]"  # IPv4
    r"|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{0,4}:"  # IPv6, MAC
    r"|[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-[0-9A-Fa-f]{2}-"  # MAC
    r"|[A-Za-z]{2}[0-9]{2}[ \-]?[A-Za-z0-9]{4}"  # IBAN
    r"|[A-Za-z]{3}[0-9]{2}[A-Za-z][0-9]{2}"  # Italy's fiscal code
    r"|[A-Z]{5}[0-9]{4}[A-Z]"  # India's PAN
    r"|bc1[02-9ac-hj-np-z]{20}|[13][1-9A-HJ-NP-Za-km-z]{25}"  # Bitcoin
)
"""RE2 (Arrow, DuckDB): a text in which it finds nothing holds nothing that `find` would."""
_suspicious = re.compile(SUSPICIOUS.replace(r"[^\P{Nd}0-9]", r"(?![0-9])\d")).search
"""The same for one text."""


def find(text: str) -> list[Span]:
    """Personal data by pattern and checksum alone; see `Find`.

    Placeholders that stand in the text already are left alone. Of two that overlap the higher score counts, then the
    longer, then the earlier, then the type's name. What stands beside something that was found is looked at again, so
    that a text in which everything was replaced holds nothing more.
    """
    return search(text) if _suspicious(text) else []


def search(text: str) -> list[Span]:
    """As `find`, of a text that is known to be suspicious."""
    return fixpoint(text, patterns)


def fixpoint(text: str, look: Callable[[str], Iterable[Span]]) -> list[Span]:
    """What `look` finds in the text, then in what is left when that is blanked, and so on."""
    left, spans = blanked(plain(text), placeholders(text)), list[Span]()
    for _ in range(PASSES):
        new = resolved(look(left))
        if not new:
            break
        spans += new
        left = blanked(left, new)
    return sorted(spans)


def resolved(spans: Iterable[Span]) -> list[Span]:
    """Those that overlap none of a better one."""
    kept: list[Span] = []
    taken: list[tuple[int, int]] = []
    for span in sorted(set(spans), key=lambda s: (-s.score, s.start - s.end, s.start, s.type)):
        if not _overlaps(taken, span):
            _insert(taken, span)
            kept.append(span)
    return sorted(kept)


def _overlaps(taken: Sequence[tuple[int, int]], span: Span) -> bool:
    at = bisect_left(taken, (span.end, -1)) - 1
    return at >= 0 and taken[at][1] > span.start


def _insert(taken: list[tuple[int, int]], span: Span) -> None:
    insort(taken, (span.start, span.end))


# -- a text as the patterns read it -----------------------------------------------------------------------------------

PLACEHOLDER: Final = re.compile(r"<([A-Z][A-Z_]{1,40})_(\d{1,6})>", re.ASCII)
"""`<EMAIL_ADDRESS_1>`. Seven digits would be a telephone number."""
BLANK: Final = "\0"


class _Plain(dict[int, int]):
    """Characters to the ASCII ones that they stand for, one for one, so that offsets stay: digits of every script,
    full-width forms, dashes and spaces. Filled as characters are met."""

    def __missing__(self, code: int) -> int:
        char = chr(code)
        if char.isdecimal():
            told = ord("0") + unicodedata.decimal(char)
        elif 0xFF01 <= code <= 0xFF5E:
            told = code - 0xFEE0
        elif 0x2010 <= code <= 0x2015 or code == 0x2212:
            told = ord("-")
        elif unicodedata.category(char) == "Zs":
            told = ord(" ")
        else:
            told = code
        self[code] = told
        return told


_plain: Final = _Plain()


def plain(text: str) -> str:
    """The same text with the ASCII characters that others stand for; of the same length."""
    return text if text.isascii() else text.translate(_plain)


def placeholders(text: str) -> list[Span]:
    """Where placeholders stand."""
    if "<" not in text:
        return []
    return [Span(m.start(), m.end(), m[1], 1.0) for m in PLACEHOLDER.finditer(text)]


def blanked(text: str, spans: Sequence[Span]) -> str:
    """The text with nothing legible where the spans are; of the same length."""
    parts: list[str] = []
    at = 0
    for span in sorted(spans):
        parts += text[at : span.start], BLANK * (span.end - span.start)
        at = span.end
    return "".join((*parts, text[at:])) if parts else text


# -- the recognisers --------------------------------------------------------------------------------------------------


def patterns(text: str) -> Iterator[Span]:
    """All that our recognisers find in a plain text; spans may overlap."""
    from loop.privacy import numbers

    if "@" in text:
        yield from _emails(text)
    if "://" in text or "www." in text.lower():
        yield from _urls(text)
    yield from _addresses(text)
    yield from _identities(text)
    yield from numbers.find(text)


_LOCAL: Final = re.compile(r"[\w+%'.&!#$*/=?^`{|}~-]{1,64}")
_DOMAIN: Final = re.compile(r"(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_][\w-]{1,24}(?![\w-])")
_WORDY: Final = re.compile(r"[\w+]")


def _emails(text: str) -> Iterator[Span]:
    """From each @ the local part backwards, then the domain."""
    at = text.find("@")
    while at >= 0:
        if at and _WORDY.match(text[at - 1]) and (domain := _DOMAIN.match(text, at + 1, at + 260)):
            local = _LOCAL.match(text[max(0, at - 64) : at][::-1])
            assert local is not None
            start = at - len(local[0].rstrip(".'&!#$*/=?^`{|}~%-"))
            yield Span(start, domain.end(), "EMAIL_ADDRESS", 0.95)
        at = text.find("@", at + 1)


_URL: Final = re.compile(r"(?:\b(?:https?|ftps?|wss?)://|\bwww\.(?=[\w-]+\.))[^\s<>\"`\0]{1,2048}", re.IGNORECASE)


def _urls(text: str) -> Iterator[Span]:
    for match in _URL.finditer(text):
        url = match[0].rstrip(".,;:!?'*_")
        while url.endswith((")", "]", "}")) and url.count(url[-1]) > url.count({")": "(", "]": "[", "}": "{"}[url[-1]]):
            url = url[:-1].rstrip(".,;:!?'*_")
        if not url.endswith("://"):
            # One that carries an address of a person is masked whole.
            yield Span(match.start(), match.start() + len(url), "URL", 0.97)


_IPV4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)", re.ASCII)
_IPV6: Final = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{3,39}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:]|\.\d)"
)
_MAC: Final = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")
_VERSION: Final = re.compile(r"(?:\bv|version|release|build)[ :=]{0,3}$", re.IGNORECASE)


def _addresses(text: str) -> Iterator[Span]:
    """Of the network: IPv4, IPv6, MAC."""
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            if all(int(part) < 256 for part in match[0].split(".")) and not _VERSION.search(
                text[max(0, match.start() - 12) : match.start()]
            ):
                yield Span(match.start(), match.end(), "IP_ADDRESS", 0.95)
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            if _is_ipv6(match[0]):
                yield Span(match.start(), match.end(), "IP_ADDRESS", 0.95)
    if ":" in text or "-" in text:
        for match in _MAC.finditer(text):
            yield Span(match.start(), match.end(), "MAC_ADDRESS", 0.9)


def _is_ipv6(text: str) -> bool:
    """Whether it is an address, and not a C++ name or a time: three groups, or two and a digit in a long one."""
    if text.count(":") < 2:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    groups = [group for group in text.split(":") if group]
    return any(c.isdigit() for c in text) and (len(groups) > 2 or (len(groups) == 2 and len(groups[0]) > 2))


class _Identity(NamedTuple):
    """A number that a state or a bank gave to a person: its form, who checks it, and what must stand before it."""

    type: str
    pattern: re.Pattern[str]
    module: str
    """Of python-stdnum, which knows the checksum."""
    context: re.Pattern[str] | None = None


def _identity(type_: str, pattern: str, module: str, context: str | None = None) -> _Identity:
    before = None if context is None else re.compile(rf"\b(?:{context})\b", re.IGNORECASE)
    return _Identity(type_, re.compile(rf"(?:{pattern})(?![\w-])", re.ASCII | re.IGNORECASE), module, before)


_IDENTITIES: Final = (
    _identity("IBAN_CODE", r"[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?", "iban"),
    _identity("US_ITIN", r"9\d\d-(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])-\d{4}", "us.itin"),
    _identity("US_SSN", r"(?!000|666|9)\d{3}(?:-(?!00)\d\d-| (?!00)\d\d )(?!0000)\d{4}", ""),
    _identity(
        "US_SSN", r"(?!000|666|9)\d{3}(?!00)\d\d(?!0000)\d{4}", "", "ssn|social security(?: (?:number|no\\.?|#))?"
    ),
    _identity("IT_FISCAL_CODE", r"[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    _identity("ES_NIF", r"\d{8}-?[A-Z]", "es.dni"),
    _identity("ES_NIE", r"[XYZ]-?\d{7}-?[A-Z]", "es.nie"),
    _identity("FR_NIR", r"[12] ?\d\d ?\d\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", "fr.nir"),
    _identity("UK_NINO", r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]", ""),
    _identity("UK_NHS", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "gb.nhs", "nhs"),
    _identity("SE_PERSONNUMMER", r"(?:\d\d)?\d{6}[-+]\d{4}", "se.personnummer"),
    _identity("FI_PERSONAL_IDENTITY_CODE", r"\d{6}[-+A]\d{3}[0-9A-Y]", "fi.hetu"),
    _identity("PL_PESEL", r"\d{11}", "pl.pesel", "pesel"),
    _identity("IN_PAN", r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", "in_.pan"),
    _identity("CH_AHV", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d", "ch.ssn"),
    _identity("CRYPTO", r"bc1[02-9ac-hj-np-z]{20,71}|[13][1-9A-HJ-NP-Za-km-z]{25,34}", "bitcoin"),
)


_IDENTITY: Final = re.compile("|".join(kind.pattern.pattern for kind in _IDENTITIES), re.ASCII | re.IGNORECASE)


@cache
def _valid(module: str) -> Callable[[str], bool]:
    is_valid = import_module(f"stdnum.{module}").is_valid
    if module == "iban":
        return lambda text: bool(is_valid(text, check_country=False))
    return lambda text: bool(is_valid(text))


_BEGINS: Final = re.compile(r"(?<![\w-])(?=(?:[A-Z]{2} |[A-Z]{0,6})[0-9])", re.ASCII | re.IGNORECASE)


def _identities(text: str) -> Iterator[Span]:
    """Each kind is tried only where one may begin: sixteen walks over a text would be slow."""
    for begin in _BEGINS.finditer(text):
        if not _IDENTITY.match(text, begin.start()):
            continue
        for kind in _IDENTITIES:
            match = kind.pattern.match(text, begin.start())
            if match is None or (kind.context is not None and not kind.context.search(before(text, match.start()))):
                continue
            start, end = match.span()
            if kind.type == "IBAN_CODE":
                end = _iban_end(match)
            elif kind.module and not _valid(kind.module)(match[0]):
                continue
            if end > start:
                yield Span(start, end, kind.type, 0.99 if kind.module else 0.85)


def _iban_end(match: re.Match[str]) -> int:
    """The end of an IBAN that begins there: words behind it may look like groups of it. Its start if it is none."""
    text = match[0]
    for cut in sorted({m.start() for m in re.finditer(r"[ -]", text)} | {len(text)}, reverse=True):
        if len(text[:cut]) >= 15 and _valid("iban")(text[:cut]):
            return match.start() + cut
    return match.start()


CONTEXT: Final = 40
"""Characters before something in which words that betray it count."""


def before(text: str, at: int) -> str:
    """What stands before a place in the same breath: not beyond a placeholder."""
    return text[max(0, at - CONTEXT) : at].rpartition(BLANK)[2]
