"""Pages as HTML: templates that escape whatever they are given, and the headers that let nothing else run or load."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

from loop.gateway.http import Headers, Reply
from loop.gateway.labelling.forms import SKIP_REASONS, Span
from loop.label.tasks import Kind

if TYPE_CHECKING:
    from jinja2 import Environment

HTML: Final = b"text/html; charset=utf-8"
STATIC: Final = {
    "page.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
ASKED: Final = {
    Kind.PREFERENCE: "Which one is better?",
    Kind.RATING: "How good is it?",
    Kind.CATEGORY: "Which category does it belong to?",
    Kind.SPAN: "Mark the parts that are of one of these types",
    Kind.REWRITE: "Write it better",
    Kind.RED_TEAM: "Try to make the model misbehave",
}
SAID: Final = {
    "saved": "Saved.",
    "skipped": "Skipped, with your reason.",
    "undone": "Undone. Here it is again.",
    "repeated": "You had given this answer already. It counts once.",
    "changed": "You had answered this otherwise before. Your new answer counts; the earlier one is kept beside it.",
    "late": "Saved, but the deadline had passed: it is kept and does not count.",
    "nothing": "There is nothing to undo: answers can be undone for an hour.",
    "gone": "This task is no longer there. Nothing was stored for it.",
    "contested": "Your appeal is noted. You will find the answer to it here.",
    "agreed": "You may be shown texts that can upset, after a warning. You can take that back at any time.",
    "declined": "You will be shown no more texts that can upset.",
    "out": "You are logged out.",
}
"""What a page says of what was just done, by the word that stands in its address."""

_HERE: Final = Path(__file__).parent
_LOCAL: Final = re.compile(r"[^/\\:?#][^:?#\\]*")


class Image(NamedTuple):
    """A reference of an image; `url` is None where it is not one that is shown."""

    reference: str
    url: str | None


def image(reference: str) -> Image:
    """Http(s) references are shown as they are, relative ones from the home's folder `images`; no other is."""
    parts = urlsplit(reference) if "\\" not in reference and reference.isprintable() else None
    if parts is not None and parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc:
        return Image(reference, reference)
    if _LOCAL.fullmatch(reference) and reference.isprintable() and ".." not in reference.split("/"):
        return Image(reference, f"/label/images/{quote(reference)}")
    return Image(reference, None)


def reply(
    template: str,
    *,
    status: int = 200,
    images: Sequence[Image] = (),
    headers: Headers = (),
    **values: Any,
) -> Reply:
    """A page. Of images only those of their very origins are loaded."""
    body = _environment().get_template(template).render(**values).encode("utf-8", "replace")
    return Reply(status, body, [*_headers(images), *headers], type=HTML)


def redirect(to: str, headers: Headers = ()) -> Reply:
    """Go there: so that loading a page again sends nothing twice."""
    return Reply(303, b"", [(b"location", to.encode("ascii")), *headers], type=HTML)


def message(status: int, heading: str, *lines: str, onward: str = "/label", action: str = "To the tasks") -> Reply:
    """A page that only says something, to whomever."""
    values: dict[str, Any] = {"csrf": "", "said": "", "undo": False, "problem": "", "here": "", "progress": None}
    return reply("message.html", status=status, heading=heading, lines=lines, onward=onward, action=action, **values)


def login(status: int = 200, *, problem: str = "", said: str = "") -> Reply:
    """Where a token is asked for."""
    return reply("login.html", status=status, csrf="", said=said, undo=False, problem=problem, here="")


def away() -> Reply:
    """What is shown while the database cannot be asked."""
    page = message(
        503,
        "The database cannot be reached",
        "Nothing was stored now, and nothing is lost: what you had answered before is safe.",
        "Try again in a moment.",
        action="Try again",
    )
    return page._replace(headers=[*page.headers, (b"retry-after", b"5")])


def ended(told: str = "What you answered is kept.") -> Reply:
    """For somebody who labels here no more."""
    why = "Ask who gave you the token if you think that this is a mistake."
    return message(403, "Your labelling here has ended", told, why, onward="/label/login", action="Log in")


@cache
def static(name: str) -> Reply:
    """A file of the pages."""
    return Reply(200, (_HERE / "static" / name).read_bytes(), type=STATIC[name])


def places(task: Mapping[str, Any], *, swapped: bool) -> list[dict[str, Any]]:
    """What is judged, in the order of this person's page: texts, images or both."""
    count = max(len(task["texts"]), len(task["images"]))
    found = [
        {
            "text": task["texts"][i] if task["texts"] else None,
            "image": image(task["images"][i]) if task["images"] else None,
        }
        for i in range(count)
    ]
    return found[::-1] if swapped else found


def marked(text: str, spans: Sequence[Span]) -> list[tuple[str, str]]:
    """A text in pieces, each with the types of the spans over it, a comma between them."""
    ends = sorted({0, len(text), *(s.start for s in spans), *(s.end for s in spans)})
    return [
        (text[first:last], ", ".join(s.type for s in spans if s.start <= first and last <= s.end))
        for first, last in pairwise(ends)
    ]


def _headers(images: Sequence[Image]) -> list[tuple[bytes, bytes]]:
    origins = {"'self'"}  # the page's icon, and the home's images
    for one in images:
        if one.url and not one.url.startswith("/"):
            parts = urlsplit(one.url)
            origins.add(f"{parts.scheme}://{quote(parts.netloc, safe=':.-[]')}")
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; "
        f"img-src {' '.join(sorted(origins))}; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return [
        (b"content-security-policy", policy.encode("ascii")),
        (b"referrer-policy", b"same-origin"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-opener-policy", b"same-origin"),
    ]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )

    def exact(text: str) -> Markup:
        """A text whose characters the browser counts as we do: it would make line ends its own."""
        return Markup(str(escape(text)).replace("\r", "&#13;"))  # noqa: S704 - escaped

    made.filters |= {"exact": exact, "minutes": _minutes, "amount": _amount, "percent": _percent, "spent": _spent}
    made.globals |= {"said_of": SAID, "asked_of": ASKED, "skip_reasons": SKIP_REASONS}
    return made


def _minutes(value: float) -> str:
    return f"{value:.0f} min"


def _amount(value: float) -> str:
    return f"{value:,.2f}" if value >= 0.1 or not value else f"{value:,.3f}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _spent(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"
