// The requests of the fleet behind this page, newest first; one that is clicked shows how it came to be.

import { h, settled } from "./dom.js";

const EVERY_MS = 3000;
const LAST = 50;

export class Live {
  /** `open` is called with a record once it is loaded, `fault` with what went wrong. */
  constructor(root, engine, open, fault) {
    Object.assign(this, { root, engine, open, fault });
    this.timer = 0;
    this.list = h("ol", { class: "requests", "aria-label": "Recent requests" });
    this.filters = {
      status: h("input", { placeholder: "404, 5xx", size: "6", maxlength: "3", spellcheck: "false" }),
      route: h("input", { placeholder: "any", spellcheck: "false", maxlength: "200" }),
      reason: h("input", { placeholder: "any", spellcheck: "false", maxlength: "60" }),
    };
    this.following = h("input", { type: "checkbox", checked: true });
    this.said = h("p", { class: "hint" });
    const look = settled(() => this.look(), 250);
    for (const input of [...Object.values(this.filters), this.following]) input.addEventListener("input", look);
    root.replaceChildren(
      h("form", { class: "filters", on: { submit: (event) => event.preventDefault() } },
        ...Object.entries(this.filters).map(([name, input]) => h("label", {}, h("span", {}, name), input)),
        h("label", { class: "check" }, this.following, "follow")),
      this.said, this.list);
  }

  start() {
    this.stop();
    this.look();
    this.timer = setInterval(() => this.following.checked && document.visibilityState === "visible" && this.look(), EVERY_MS);
  }

  stop() {
    clearInterval(this.timer);
  }

  async look() {
    const asked = Object.fromEntries(Object.entries(this.filters).map(([name, input]) => [name, input.value.trim()]));
    try {
      const rows = await this.engine.recent({ last: LAST, ...asked });
      this.said.textContent = rows.length ? "" : "No request is recorded that fits. Send one, and it appears here.";
      this.#show(rows);
    } catch (fault) {
      this.said.textContent = `${fault.message}. ${fault.remedy ?? ""}`;
      this.list.replaceChildren();
    }
  }

  #show(rows) {
    const key = rows.map((row) => row.request_id).join();
    if (key === this.key) return;
    this.key = key;
    const focused = this.list.querySelector("button:focus")?.dataset.id;
    this.list.replaceChildren(...rows.map((row) => this.#row(row)));
    if (focused) [...this.list.querySelectorAll("button")].find((one) => one.dataset.id === focused)?.focus();
  }

  #row(row) {
    const button = h("button", { type: "button", class: "record", data: { id: row.request_id },
      on: { click: () => this.#load(row.request_id) } },
      h("span", { class: "code", data: { class: String(row.status)[0] } }, String(row.status)),
      h("span", { class: "what" },
        h("b", {}, row.method || "–"), ` ${row.host}${row.path}${row.query_length ? "?…" : ""}`,
        h("small", {}, [row.route && `route ${row.route}`, row.reason, `${row.duration_ms.toFixed(1)} ms`, row.client_ip].filter(Boolean).join(" · "))),
      h("time", { datetime: row.time }, row.time.slice(11, 19)));
    return h("li", {}, button);
  }

  async #load(id) {
    try {
      const record = await this.engine.why(id);
      for (const one of this.list.querySelectorAll("button")) one.classList.toggle("chosen", one.dataset.id === id);
      await this.open(record);
    } catch (fault) {
      this.fault(fault);
    }
  }
}
