// Who answers: control, by which this page was served, or Python in a worker of this browser.
// Both are asked the same question and give the same answer; the page does not know which one it has.

/** What went wrong, and what to do about it. */
export class Fault extends Error {
  constructor(text, remedy = "", status = 0) {
    super(text);
    this.remedy = remedy;
    this.status = status;
  }
}

const TOKEN = "sentinel-token";

/** control, over its admin API. `askToken` asks the person for the token; "" when there is none. */
export class Control {
  isLive = true;
  name = "control";

  constructor(askToken) {
    this.askToken = askToken;
    this.asking = null;
  }

  async start() {
    return this;
  }

  ask(question) {
    return this.#fetch("../api/v1/playground", { method: "POST", body: JSON.stringify(question) });
  }

  recent(filters) {
    const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value !== ""));
    return this.#fetch(`../api/v1/requests?${query}`);
  }

  why(id) {
    return this.#fetch(`../api/v1/why/${encodeURIComponent(id)}`);
  }

  async #fetch(path, options = {}) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { "content-type": "application/json" };
    if (token) headers.authorization = `Bearer ${token}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    } catch {
      throw new Fault("control does not answer", "it is started again by the supervisor; the page asks again");
    }
    if (response.status === 401) {
      this.asking ??= this.askToken().finally(() => (this.asking = null));
      const given = await this.asking;
      if (!given) throw new Fault("this admin API needs its token", "reload the page to be asked again", 401);
      sessionStorage.setItem(TOKEN, given);
      return this.#fetch(path, options);
    }
    const document = await response.json().catch(() => ({ error: `control answered ${response.status}` }));
    if (!response.ok) throw new Fault(document.error ?? `control answered ${response.status}`, document.remedy, response.status);
    return document;
  }
}

/** Python in a worker: no server at all. */
export class Browser {
  isLive = false;
  name = "this browser";

  async start() {
    this.worker = new Worker(new URL("python.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.asked = 0;
    await new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Fault(`Python does not start: ${event.message}`, "see docs/how-to/playground.md"));
      this.worker.onmessage = ({ data }) => {
        if (data.ready) resolve();
        else if (data.fault) reject(new Fault(`Python does not start: ${data.fault}`, "serve the folder as it was built"));
        else this.#heard(data);
      };
    });
    return this;
  }

  ask(question) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.asked, { resolve, reject });
      this.worker.postMessage({ number: this.asked, text: JSON.stringify(question) });
    });
  }

  #heard({ number, text, error }) {
    const { resolve, reject } = this.waiting.get(number);
    this.waiting.delete(number);
    if (error) return reject(new Fault(error, "please report it"));
    const document = JSON.parse(text);
    return document.error ? reject(new Fault(document.error, document.remedy)) : resolve(document);
  }
}
