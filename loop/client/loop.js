/* The client of the gateway for web pages; under 5 kB, no build step.
 *
 *   const loop = new Loop("");  // "": the page's own server adds the token and passes calls on
 *   const shown = await loop.suggest({ workflow: "ads", messages: [{ role: "user", content: brief }] });
 *   const { status } = await loop.feedback(shown, { decision: "accept", chosen: 0 });  // or "waiting"
 *
 * What is told stands in localStorage until the gateway has it; told twice it is a duplicate there. What is refused
 * rejects its call, or is set aside if none waits. */

const store = localStorage;
const idOf = (suggestion) => suggestion.suggestion_id ?? suggestion;

export class Loop {
  trouble = ""; // why the gateway takes nothing now
  onchange = () => {}; // `waiting`, `refused` or `trouble` changed
  timeout = 10000; // ms
  #flight;
  #timer;
  #failures = 0;
  #last = 0;
  #calls = new Map(); // entry that a call waits for, to its result

  constructor(url, { token, name = "loop" } = {}) {
    Object.assign(this, { url, name });
    this.headers = { "content-type": "application/json", ...(token && { authorization: "Bearer " + token }) };
    addEventListener("online", this.flush);
    this.flush();
  }

  get waiting() {
    return this.#keys("waits").length;
  }

  get refused() { // each { route, id, body, status, message }
    return this.#keys("refused").map((key) => JSON.parse(store[key]));
  }

  flush = () => (this.#flight ??= this.#send());

  suggest = (request) => this.#ask("/v1/suggestions", request);

  feedback(suggestion, fields) {
    const body = { event_id: crypto.randomUUID(), suggestion_id: idOf(suggestion), ...fields };
    if (body.final_text === "") body.reasons = [...new Set(body.reasons).add("deleted")];
    const now = Math.max(Date.now(), Date.parse(suggestion.shown_at) || 0); // the gateway's clock may be ahead
    if (body.decision !== "ignore") body.decided_at ??= new Date(now);
    return this.#tell("/v1/feedback", body.event_id, body);
  }

  outcome(suggestion, fields) {
    const outcome_id = crypto.randomUUID(), suggestion_id = idOf(suggestion);
    const body = { outcome_id, suggestion_id, observed_at: new Date(), ...fields }; // name and value
    return this.#tell("/v1/outcomes", body.outcome_id, body);
  }

  async #tell(route, id, body) {
    this.#last = Math.max(Date.now(), this.#last + 1);
    const entry = `${this.name}.waits.${this.#last}.${id}`;
    store[entry] = JSON.stringify({ route, id, body }); // throws if full
    this.#calls.set(entry);
    this.onchange();
    await this.flush();
    const result = this.#calls.get(entry);
    this.#calls.delete(entry);
    if (result?.message) throw result;
    return result ?? { status: store[entry] ? "waiting" : "stored" };
  }

  async #send() {
    await clearTimeout(this.#timer);
    try {
      for (let key; (key = this.#keys("waits")[0]); this.onchange()) {
        const item = JSON.parse(store[key]);
        const result = await this.#ask(item.route, item.body, item.id).catch((error) => error);
        const { status = 401, message } = result;
        if (message && status === 401) throw result;
        if (this.#calls.has(key)) this.#calls.set(key, result);
        else if (message) store[key.replace(".waits.", ".refused.")] = JSON.stringify({ ...item, status, message });
        delete store[key];
      }
      this.#failures = 0;
      this.trouble = "";
    } catch ({ wait = 0, message }) {
      const delay = wait + Math.random() * Math.min(60000, 500 * 2 ** this.#failures++);
      this.#timer = setTimeout(this.flush, delay);
      this.trouble = message;
    }
    this.#flight = null;
    this.onchange();
  }

  // An error with a status is the gateway's refusal; any other says to try later
  async #ask(route, item, id) {
    for (let failed = 1; ; failed++) {
      try {
        const { headers } = this, body = JSON.stringify(item), signal = AbortSignal.timeout(this.timeout);
        const answer = await fetch(this.url + route, { method: "POST", headers, body, signal });
        const told = await answer.json().catch(() => ({}));
        if (answer.ok && (id ? (told.event_id ?? told.outcome_id) === id : told.candidates)) return told;
        const { status } = answer, error = new Error(told.error?.message || "the gateway answered " + status);
        error.wait = 1000 * answer.headers.get("retry-after") || 0;
        if (/^4(?!08|25|29)/.test(status) && (told.error || status === 413)) error.status = status;
        throw error;
      } catch (error) {
        const { status, wait = 0, name } = error; // a suggestion has no key: a slow one is not asked for twice
        if (failed > 2 || status || wait > 5000 || (id ? this.trouble : name === "TimeoutError")) throw error;
        await new Promise((done) => setTimeout(done, wait + Math.random() * 200 * 2 ** failed));
      }
    }
  }

  #keys(kind) {
    return Object.keys(store).sort().filter((key) => key.startsWith(`${this.name}.${kind}.`));
  }
}
