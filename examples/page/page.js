/* The desk: two pieces of work, an ad and a moderation decision, each with the candidates that the model suggests. */

import { Loop } from "./loop.js";

const NAMES = { ads: "Ad copy", moderation: "Moderation decision" };
const $ = (selector, within = document) => within.querySelector(selector);
const loop = new Loop("", { name: "desk" });
let active;

/* -- one desk ----------------------------------------------------------------------------------------------------- */

class Desk {
  constructor(workflow, briefs) {
    Object.assign(this, { workflow, briefs, at: 0, shown: null, seen: 0 });
    this.node = $("#desk").content.firstElementChild.cloneNode(true);
    this.form = $("form", this.node);
    this.text = $("textarea", this.node);
    const title = $("h2", this.node);
    title.id = `${workflow}-title`;
    this.node.setAttribute("aria-labelledby", title.id);
    $(".brief", this.node).id = `${workflow}-brief`;
    title.setAttribute("aria-describedby", `${workflow}-brief`);
    $(".hint", this.node).id = `${workflow}-hint`;
    this.text.setAttribute("aria-describedby", `${workflow}-hint`);
    this.node.addEventListener("focusin", () => activate(this, false));
    this.node.addEventListener("pointerdown", () => activate(this, false));
    this.node.addEventListener("click", ({ target }) => {
      const action = target.closest("[data-do]")?.dataset.do;
      if (action) this[action]();
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    $("main").append(this.node);
    this.resume();
  }

  /* After a reload the same suggestion is shown again: a second one would leave the first without a decision. */
  resume() {
    const kept = JSON.parse(sessionStorage.getItem(this.workflow) ?? "{}");
    this.at = Math.min(kept.at ?? 0, this.briefs.length);
    if (kept.shown) this.show(kept.shown, true);
    else this.next();
  }

  keep() {
    sessionStorage.setItem(this.workflow, JSON.stringify({ at: this.at, shown: this.shown }));
  }

  get busy() {
    return !this.shown;
  }

  get editing() {
    return !$(".editor", this.node).hidden;
  }

  get choice() {
    return Number($("input:checked", this.form).value);
  }

  async next() {
    this.shown = null;
    this.keep();
    this.form.hidden = true;
    const brief = this.briefs[this.at];
    const count = `${Math.min(this.at + 1, this.briefs.length)} of ${this.briefs.length}`;
    $("h2", this.node).textContent = `${NAMES[this.workflow]}, ${count}`;
    $(".brief", this.node).textContent = brief ?? "All done.";
    this.absent(brief ? "Asking for suggestions …" : "", false);
    if (!brief) return;
    const { at } = this;
    try {
      const shown = await loop.suggest({ workflow: this.workflow, brief });
      if (this.at === at && this.busy) this.show(shown, false);
      if (loop.trouble) loop.flush(); // it answers again
    } catch (error) {
      this.absent(error.status ? `No suggestion: ${error.message}.` : "No suggestion now: the gateway is away.", true);
    }
  }

  show(shown, isAgain) {
    this.shown = shown;
    this.seen = isAgain ? 0 : performance.now();
    this.keep();
    const brief = this.briefs[this.at];
    $("h2", this.node).textContent = `${NAMES[this.workflow]}, ${this.at + 1} of ${this.briefs.length}`;
    $(".brief", this.node).textContent = brief;
    this.absent("", false);
    const rows = shown.candidates.map(({ position, text }) => {
      const row = $("#candidate").content.firstElementChild.cloneNode(true);
      const input = $("input", row);
      Object.assign(input, { name: `${this.workflow}-choice`, value: position, checked: position === 0 });
      $("kbd", row).textContent = position + 1;
      $("span", row).textContent = text;
      return row;
    });
    $("fieldset", this.form).replaceChildren($("legend", this.form), ...rows);
    this.edits(false);
    this.form.hidden = false;
  }

  absent(message, canRetry) {
    $(".absent", this.node).hidden = !message;
    $(".absent span", this.node).textContent = message;
    $(".absent button", this.node).hidden = !canRetry;
    this.isStuck = canRetry;
  }

  again() {
    this.next();
  }

  edits(is) {
    $(".editor", this.node).hidden = !is;
    $("fieldset", this.form).disabled = is;
    for (const button of this.form.querySelectorAll(".actions button"))
      button.hidden = is !== ["save", "cancel"].includes(button.dataset.do);
  }

  /* -- what a person does -- */

  accept(position = this.choice) {
    this.decide({ decision: "accept", chosen: position }, `Accepted text ${position + 1}`);
  }

  edit() {
    this.text.value = this.shown.candidates[this.choice].text;
    this.edits(true);
    this.text.focus();
  }

  save() {
    const chosen = this.choice;
    const text = this.text.value.trim();
    if (text === this.shown.candidates[chosen].text.trim()) this.accept(chosen);
    else this.decide({ decision: "modify", chosen, final_text: text }, text ? "Saved your text" : "Deleted the text");
  }

  cancel() {
    this.edits(false);
    $("input:checked", this.form).focus();
  }

  reject() {
    this.decide({ decision: "reject" }, "Rejected both");
  }

  skip() {
    this.decide({ decision: "ignore" }, "Skipped");
  }

  decide(fields, what) {
    const { shown, seen } = this;
    if (seen) fields.dwell_ms = Math.round(performance.now() - seen);
    const told = loop.feedback(shown, fields); // it stands in the outbox before this returns
    this.at += 1;
    this.next();
    // Always in turn, also if the other is still asking: where the next key goes must not hang on who answers first.
    const other = desks.find((desk) => desk !== this && desk.at < desk.briefs.length && !desk.isStuck);
    activate(other ?? this, true);
    say(`${what}.`);
    told.then(
      ({ status }) => status === "waiting" && say(`${what}. It waits on this device until the gateway is back.`),
      (error) => say(`${what}, but it was not kept: ${error.message}.`),
    );
  }
}

function activate(desk, focus) {
  active = desk;
  for (const each of desks) each.node.classList.toggle("active", each === desk);
  if (focus) $("h2", desk.node).focus();
}

/* -- what is said to the person ----------------------------------------------------------------------------------- */

function say(message) {
  $("#said").textContent = message;
}

function tellState() {
  const { waiting, refused } = loop;
  const away = !navigator.onLine || loop.trouble;
  const count = `${waiting} decision${waiting === 1 ? "" : "s"} wait${waiting === 1 ? "s" : ""} on this device`;
  const where = navigator.onLine ? (loop.trouble ? "Gateway away" : "Online") : "Offline";
  const told = `${where}, ${waiting ? count : "all sent"}`;
  if ($("#link").textContent !== told) $("#link").textContent = told; // said aloud only when it changes
  $("#link").classList.toggle("away", Boolean(away));
  $("#refused").hidden = !refused.length;
  $("#refused ul").replaceChildren(
    ...refused.map(({ status, message, body }) => {
      const row = document.createElement("li");
      row.textContent = `${body.decision}: ${message} (${status})`;
      return row;
    }),
  );
}

/* A person waits here: look more often than the outbox by itself would, which waits up to a minute. */
const LOOK_AGAIN = 3000;
setInterval(() => {
  if (!navigator.onLine) return;
  if (loop.trouble) loop.flush();
  else for (const desk of desks) if (desk.isStuck) desk.next();
}, LOOK_AGAIN);

let wasAway = false;
function stateChanged() {
  tellState();
  const isAway = !navigator.onLine || Boolean(loop.trouble);
  if (wasAway && !isAway) {
    say("The gateway has every decision.");
    for (const desk of desks) if (desk.isStuck) desk.next();
  }
  wasAway = isAway;
}

/* -- the keyboard ------------------------------------------------------------------------------------------------- */

const shortcuts = $("#shortcuts");
shortcuts.checked = localStorage.getItem("shortcuts") !== "off";
shortcuts.addEventListener("change", () => localStorage.setItem("shortcuts", shortcuts.checked ? "on" : "off"));

function choose(step) {
  const inputs = [...active.form.querySelectorAll("input")];
  const to = inputs[(active.choice + step + inputs.length) % inputs.length];
  to.checked = true;
  to.focus();
}

const KEYS = {
  Enter: () => active.accept(),
  ArrowDown: () => choose(1),
  ArrowUp: () => choose(-1),
  e: () => active.edit(),
  r: () => active.reject(),
  s: () => active.skip(),
};

document.addEventListener("keydown", (event) => {
  if (!active) return;
  const { key, target, repeat } = event;
  if (active.editing && target === active.text) {
    if (key === "Escape") active.cancel();
    else if (key === "Enter" && (event.ctrlKey || event.metaKey) && !repeat) active.save();
    else return;
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || repeat || event.isComposing || !shortcuts.checked) return;
  if (target.closest("button, textarea, [type=checkbox]") && (key === "Enter" || key === " ")) return; // its own key
  const name = key.length === 1 ? key.toLowerCase() : key;
  const position = Number(name) - 1;
  if (name === "n") activate(desks[(desks.indexOf(active) + 1) % desks.length], true);
  else if (active.busy || active.editing) return;
  else if (active.shown.candidates[position]) active.accept(position);
  else if (KEYS[name]) KEYS[name]();
  else return;
  event.preventDefault();
});

/* -- begin -------------------------------------------------------------------------------------------------------- */

const work = await (await fetch("work.json")).json();
const desks = [];
for (const [workflow, briefs] of Object.entries(work)) desks.push(new Desk(workflow, briefs));
activate(desks[0], true);
loop.onchange = stateChanged;
addEventListener("online", stateChanged);
addEventListener("offline", stateChanged);
stateChanged();
