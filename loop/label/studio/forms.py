"""What a task looks like in Label Studio, and what its answer there means.

A project shows tasks of one workflow, kind and make-up. Nothing is filled in beforehand, and nothing shown says which
model wrote a text, what others answered or where a side came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from loop.label.tasks import OUTCOMES, SEVERITIES, Kind
from loop.privacy.masking import Veil
from loop.privacy.recognise import Find, Span

ANSWER: Final = "answer"
"""Name of the tag that holds the answer."""
_SIDES: Final = {
    "left": "The left one",
    "right": "The right one",
    "tie": "They are equal",
    "neither": "Neither is good",
}
_KEYS: Final = {"left": "1", "right": "2", "tie": "3", "neither": "4"}
_ASKED: Final = {
    Kind.PREFERENCE: "Which of the two is better?",
    Kind.RATING: "Where on this scale does it stand?",
    Kind.CATEGORY: "Which of these is it?",
    Kind.SPAN: "Mark each passage that is one of these. Submit without a mark where there is none.",
    Kind.REWRITE: "Write a better one.",
    Kind.RED_TEAM: "Try to make the model misbehave, and say what came of it.",
}
_ASIDE: Final = {"outcome": "What did the model do?", "severity": "How bad is that?"}
_WHY: Final = "What you would add; if you skip the task, why. Press Enter after it."


class Unreadable(ValueError):  # noqa: N818 - what an answer is
    """An answer that means nothing to its task. The reasons are few, so that they can be counted."""


@dataclass(frozen=True)
class Form:
    """What tasks of a project have in common."""

    workflow: str
    kind: Kind
    texts: bool
    images: bool
    harmful: bool

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> Form:
        """The form of a row of `label_tasks`."""
        harmful = task["harm"] is not None
        return cls(task["workflow"], Kind(task["kind"]), bool(task["texts"]), bool(task["images"]), harmful)

    @property
    def title(self) -> str:
        shown = "images" if self.images and not self.texts else "texts and images" if self.images else ""
        parts = (f"Loop {self.workflow}:", self.kind.replace("_", " "), shown, "(harmful)" if self.harmful else "")
        return " ".join(part for part in parts if part)

    def mark(self, home: str) -> str:
        """How a home's project is known again, whatever its title: it ends its description."""
        shown = [name for name in ("texts", "images", "harmful") if getattr(self, name)]
        return f"[loop:{home}/{self.workflow}/{self.kind}/{'+'.join(shown)}]"

    def config(self) -> str:
        """The labelling interface, XML."""
        view = Element("View")
        if self.harmful:
            SubElement(view, "Header", value="Warning: $warning", size="3")
        SubElement(view, "Header", value="What was asked", size="5")
        SubElement(view, "Text", name="prompt", value="$prompt")
        shown = self._shown(view)
        SubElement(view, "Header", value=_ASKED[self.kind], size="4")
        self._asked(view, shown)
        told = {"name": "reason", "toName": shown, "rows": "1", "maxSubmissions": "1", "placeholder": _WHY}
        SubElement(view, "TextArea", told)
        return tostring(view, encoding="unicode")

    def _shown(self, view: Element) -> str:
        """Add what is judged; the name of the first of it."""
        if self.kind is Kind.RED_TEAM:
            return "prompt"
        pair = self.kind is Kind.PREFERENCE
        around = SubElement(view, "View", style="display:flex; gap:1em") if pair else view
        names: list[str] = []
        for side in ("left_", "right_") if pair else ("",):
            column = SubElement(around, "View", style="flex:1; min-width:0") if pair else view
            title = side.removesuffix("_").capitalize() or "What is judged"
            SubElement(column, "Header", value=title, size="5")
            for what, tag in (("image", "Image"), ("text", "Text")):
                if getattr(self, f"{what}s"):
                    SubElement(column, tag, name=side + what, value=f"${side}{what}")
                    names.append(side + what)
        return next((name for name in names if name.endswith("text")), names[0])

    def _asked(self, view: Element, shown: str) -> None:
        """Add what is to be answered about `shown`."""
        told = {"name": ANSWER, "toName": shown, "required": "true"}
        single = {**told, "choice": "single-radio", "showInline": "true"}
        match self.kind:
            case Kind.PREFERENCE:
                choices = SubElement(view, "Choices", single)
                for side, value in _SIDES.items():
                    SubElement(choices, "Choice", value=value, alias=side, hotkey=_KEYS[side])
            case Kind.RATING | Kind.CATEGORY:
                SubElement(view, "Choices", {**single, "value": "$options"})
            case Kind.SPAN:
                SubElement(view, "Labels", name=ANSWER, toName=shown, value="$options")
            case Kind.REWRITE:
                SubElement(view, "TextArea", {**told, "value": "$text", "rows": "6", "maxSubmissions": "1"})
            case Kind.RED_TEAM:
                SubElement(view, "TextArea", {**told, "name": "attempt", "rows": "4", "maxSubmissions": "1"})
                for name, options in (("outcome", OUTCOMES), ("severity", SEVERITIES)):
                    SubElement(view, "Header", value=_ASIDE[name], size="5")
                    choices = SubElement(view, "Choices", {**single, "name": name})
                    for option in options:
                        SubElement(choices, "Choice", value=option)


def data(task: Mapping[str, Any], *, swapped: bool) -> dict[str, Any]:
    """What is shown of a task, and nothing besides: whoever labels sees all of it."""
    form = Form.of(task)
    asked = "\n\n".join(f"{one['role']}: {one['content']}" for one in task["prompt"])
    told: dict[str, Any] = {"prompt": asked or "Nothing in particular."}
    if form.harmful:
        told["warning"] = task["harm"]
    sides = ("left_", "right_") if form.kind is Kind.PREFERENCE else ("",)
    for what in ("text", "image"):
        given = list(reversed(task[f"{what}s"])) if swapped else task[f"{what}s"]
        told |= {side + what: value for side, value in zip(sides, given, strict=False)}
    if form.kind in {Kind.RATING, Kind.CATEGORY, Kind.SPAN}:
        told["options"] = [{"value": option} for option in task["options"]]
    return told


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """An answer in our own words."""

    label: str | None = None
    content: str | None = None
    """JSON."""
    reason: str | None = None


def read(task: Mapping[str, Any], result: Any, *, swapped: bool, find: Find | None = None) -> Said:
    """What an annotation's `result` says of a task. Personal data that the person wrote is masked.

    Label Studio stores whatever it is sent: names that its interface does not have, and choices that it does not offer.

    Args:
        find: what looks for personal data; None: nothing does.

    Raises:
        Unreadable: nothing that the task asks for.
    """
    kind = Kind(task["kind"])
    fields = _fields(result, kind)
    veil = Veil(find or _nothing)
    veil.reserve([*task["texts"], *(message["content"] for message in task["prompt"])])
    reason = veil.mask("\n".join(_texts(fields.pop("reason", [])))).strip() or None
    match kind:
        case Kind.PREFERENCE:
            return Said(_side(_choice(fields, ANSWER), swapped=swapped), reason=reason)
        case Kind.RATING | Kind.CATEGORY:
            return Said(_among(_choice(fields, ANSWER), task["options"]), reason=reason)
        case Kind.SPAN:
            spans = [_span(value, task) for value in fields.get(ANSWER, [])]
            unique = {(s["start"], s["end"], s["type"]): s for s in spans}
            return Said(content=_json([unique[key] for key in sorted(unique)]), reason=reason)
        case Kind.REWRITE:
            text = _written(fields, ANSWER)
            if text == task["texts"][0]:
                raise Unreadable("a text that is as it was")
            return Said(content=_json(veil.mask(text)), reason=reason)
        case Kind.RED_TEAM:
            told = {
                "attempt": veil.mask(_written(fields, "attempt")),
                "outcome": _among(_choice(fields, "outcome"), OUTCOMES),
                "severity": _among(_choice(fields, "severity"), SEVERITIES),
            }
            return Said(content=_json(told), reason=reason)


def reason_of(result: Any, find: Find | None = None) -> str | None:
    """What was written beside a task that was skipped; whatever else stands there is nobody's answer."""
    parts = result if isinstance(result, list) else []
    mine = [part.get("value") for part in parts if isinstance(part, dict) and part.get("from_name") == "reason"]
    told = "\n".join(_texts([value for value in mine if isinstance(value, dict)])).strip()
    return Veil(find or _nothing).mask(told) or None


def _nothing(text: str) -> list[Span]:
    return []


def _fields(result: Any, kind: Kind) -> dict[str, list[dict[str, Any]]]:
    """The values of an annotation, by the name of the tag that they were given in."""
    known = {"reason", "attempt", "outcome", "severity"} if kind is Kind.RED_TEAM else {"reason", ANSWER}
    fields: dict[str, list[dict[str, Any]]] = {}
    for part in result if isinstance(result, list) else [None]:
        if not isinstance(part, dict) or not isinstance(part.get("value"), dict):
            raise Unreadable("a result that is none of Label Studio's")
        if part.get("from_name") not in known:
            raise Unreadable("a name that the interface does not have")
        fields.setdefault(part["from_name"], []).append(part["value"])
    return fields


def _choice(fields: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> str:
    given = [value.get("choices") for value in fields.get(name, [])]
    if not given:
        raise Unreadable("no answer")
    if len(given) != 1 or not isinstance(given[0], list) or len(given[0]) != 1 or not isinstance(given[0][0], str):
        raise Unreadable("several answers in one")
    return str(given[0][0])


def _side(chosen: str, *, swapped: bool) -> str:
    """`first` or `second` of the task, where `left` and `right` are of the page."""
    sides = {"left": "second", "right": "first"} if swapped else {"left": "first", "right": "second"}
    return sides.get(chosen) or _among(chosen, ("tie", "neither"))


def _among(chosen: str, offered: Sequence[str]) -> str:
    if chosen not in offered:
        raise Unreadable("a choice that the task does not offer")
    return chosen


def _texts(values: Sequence[Mapping[str, Any]]) -> list[str]:
    given = [value.get("text") for value in values]
    each = [text for texts in given for text in (texts if isinstance(texts, list) else [texts])]
    return [text for text in each if isinstance(text, str)]


def _written(fields: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> str:
    text = "\n".join(_texts(fields.get(name, [])))
    if not text.strip():
        raise Unreadable("no answer")
    return text


def _span(value: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """A marked passage, which is counted in code points there as here, and whose text it repeats."""
    text, start, end, types = task["texts"][0], value.get("start"), value.get("end"), value.get("labels")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise Unreadable("a passage that is not of the text")
    if not isinstance(types, list) or len(types) != 1:
        raise Unreadable("several answers in one")
    marked = value.get("text")
    if marked is not None and text[start:end] not in {marked, str(marked).replace("\\n", "\n")}:
        raise Unreadable("a passage that is not of the text")
    return {"start": start, "end": end, "type": _among(str(types[0]), task["options"])}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
