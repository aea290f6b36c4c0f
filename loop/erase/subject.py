"""Who or what is erased: an id as it was given, and every name that it has in the stores."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from loop.collect.events import pseudonyms
from loop.config import Settings
from loop.errors import BadInputError

_PSEUDONYM: Final = re.compile(r"p_[0-9a-f]{32}")
DISTINCTIVE: Final = 5
"""Characters from which an id that is all of a string, or has a digit or an @, is taken for the person's."""
LONG: Final = 12
"""Characters from which any id is told from other words, wherever it stands alone."""
OWN_WORDS: Final = 16
"""Characters from which a text that the person wrote is looked for in logs and documents."""


class Kind(StrEnum):
    """What an erasure is of."""

    EMPLOYEE = "employee"
    INTERACTION = "interaction"


@dataclass(frozen=True)
class Subject:
    """One person or one interaction. The id is for this process alone: no store, log or message has it."""

    kind: Kind
    given: str = field(repr=False)
    digest: str
    """Keyed hash of kind and id: by it an erasure is known again."""
    names: tuple[str, ...]
    """Of a person: the pseudonyms under every key of the ring, and the id itself where it is one."""
    telling: bool
    """Whether the id, where it stands alone in a text, is the subject's: `admin` or `17` may be anything, and a name
    that the home's path bears is in every path."""


def subject(settings: Settings, kind: Kind, given: str) -> Subject:
    """The subject of an erasure.

    Raises:
        BadInputError: the id is empty.
    """
    if not given.strip():
        raise BadInputError(f"--{kind}: expected an id, got an empty one")
    keyed = hashlib.blake2b(f"{kind}\0{given}".encode("utf-8", "surrogatepass"), key=settings.secret("erasure"))
    names: tuple[str, ...] = ()
    if kind is Kind.EMPLOYEE:
        names = (*pseudonyms(given, settings), *([given] if _PSEUDONYM.fullmatch(given) else []))
    mixed = kind is Kind.EMPLOYEE and len(given) >= DISTINCTIVE and any(c.isdigit() or c == "@" for c in given)
    telling = (mixed or len(given) >= LONG) and given not in str(settings.home)
    return Subject(kind, given, keyed.hexdigest()[:32], names, telling)


def check_reason(subject: Subject, reason: str) -> None:
    """Refuse a reason that says nothing, or that names the person: it is kept.

    Raises:
        BadInputError: either.
    """
    if not reason.strip():
        raise BadInputError("--reason: expected a sentence that a colleague understands in a year, got nothing")
    if re.search(rf"(?<!\w){re.escape(subject.given)}(?!\w)", reason, re.IGNORECASE):
        raise BadInputError("--reason: it is kept, so it may not hold the id that is erased; name the request instead")


def spellings(texts: Iterable[str]) -> list[str]:
    """Texts as they may stand in a file or a column: as they are, and within JSON, once and twice, in either habit."""
    found: dict[str, None] = {}
    for text in texts:
        for ascii_only in (True, False):
            once = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
            twice = json.dumps(once, ensure_ascii=ascii_only)[1:-1]
            found |= dict.fromkeys((text, once, twice))
    return sorted((text for text in found if text), key=len, reverse=True)


def in_raw(subject: Subject) -> str:
    """A regular expression (RE2) for the id in a row as it came, which may be no JSON.

    One that is not `telling` is found where it is all of a string; one shorter than `DISTINCTIVE`, or of an
    interaction, only in the fields where such ids belong.
    """
    spelled = "|".join(map(_literal, spellings([subject.given])))
    if subject.telling:
        return rf"(?:^|[^0-9A-Za-z_-]|\\[bfnrt])(?:{spelled})(?:[^0-9A-Za-z_-]|$)"
    if subject.kind is Kind.EMPLOYEE and len(subject.given) >= DISTINCTIVE:
        return f'"(?:{spelled})"'
    fields = "employee" if subject.kind is Kind.EMPLOYEE else "event_id|suggestion_id"
    return rf'"(?:{fields})"\s*:\s*"(?:{spelled})"'


def _literal(text: str) -> str:
    return re.sub(r"([^0-9A-Za-z_])", lambda m: m[0] if ord(m[0]) > 127 else f"\\x{ord(m[0]):02x}", text)
