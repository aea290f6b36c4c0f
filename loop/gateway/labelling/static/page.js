// Keys for what the page offers anyway, and selections for marking. Without it every form works by itself.
"use strict";

const switched = document.querySelector("#shortcuts");
const kept = "loop-label-keys";

if (switched) {
  switched.checked = localStorage.getItem(kept) !== "off";
  switched.addEventListener("change", () => localStorage.setItem(kept, switched.checked ? "on" : "off"));
}

// A screen reader tells what changes in a live region, not what stands in it when the page comes.
const said = document.querySelector("#said");
if (said && said.textContent.trim()) {
  const parts = [...said.childNodes];
  said.replaceChildren();
  setTimeout(() => said.replaceChildren(...parts), 50);
}

// One press is one answer.
let sent = false;
addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
addEventListener("pageshow", () => (sent = false));

const marking = document.querySelector("#marking");

function offset(node, at) {
  const range = document.createRange();
  range.setStart(marking, 0);
  range.setEnd(node, at);
  return range.toString().length;
}

if (marking) {
  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    if (!selection.rangeCount) return;
    const range = selection.getRangeAt(0);
    if (range.collapsed || !marking.contains(range.commonAncestorContainer)) return;
    document.querySelector("#from").value = offset(range.startContainer, range.startOffset);
    document.querySelector("#to").value = offset(range.endContainer, range.endOffset);
    document.querySelector("#quote").value = range.toString();
  });
  document.querySelector("#quote").addEventListener("input", () => {
    document.querySelector("#from").value = document.querySelector("#to").value = "";
  });
}

function writing(element) {
  return element.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");
}

function act(target) {
  if (target.matches("input[type=radio]")) {
    target.checked = true;
    target.focus();
  } else if (target.matches("summary")) {
    const details = target.parentElement;
    details.open = !details.open;
    if (details.open) details.scrollIntoView({ block: "nearest" });
    (details.open ? details.querySelector("input:not([type=hidden])") : document.querySelector("#main")).focus();
  } else {
    target.click();
  }
}

addEventListener("keydown", (event) => {
  if (event.isComposing || event.altKey || event.metaKey) return;
  const inside = document.activeElement || document.body;
  if (event.ctrlKey) {
    if (event.key === "Enter" && inside.form) (inside.form.querySelector("[data-key=Enter]") || inside).click();
    return;
  }
  if (event.key === "Escape") {
    const open = document.querySelector("#skip[open]");
    if (open) open.open = false;
    document.querySelector("#main").focus();
    return;
  }
  if (event.key === "Enter") {
    if (event.repeat || inside.matches("a, button, summary, textarea, input:not([type=radio])")) return;
    event.preventDefault();
    const place = inside.form || document;
    const button = place.querySelector("button[data-key=Enter]") || document.querySelector("[data-key=Enter]");
    if (button) button.click();
    return;
  }
  if ((switched && !switched.checked) || writing(inside) || event.repeat) return;
  // While the reasons for skipping are open, the numbers are theirs.
  const place = document.querySelector("#skip[open]") || document;
  const name = CSS.escape(event.key.toLowerCase());
  const target = place.querySelector(`[data-key="${name}"]`) || document.querySelector(`[data-key="${name}"]`);
  if (target) {
    event.preventDefault();
    act(target);
  }
});

// A click anywhere on a text chooses it, unless something of it is being selected.
for (const option of document.querySelectorAll(".option")) {
  option.addEventListener("click", (event) => {
    if (event.target.closest("label, a") || !getSelection().isCollapsed) return;
    act(option.querySelector("input"));
  });
}
