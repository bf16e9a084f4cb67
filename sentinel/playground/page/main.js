// The page: what is edited on the left is asked, and the decision on the right is what came of it.
//
//   editors, request, desk ──▶ question ──▶ engine (control, or Python in this browser) ──▶ problems, drawing
//
// Nothing is decided here. The page knows no rule of routing, no limit and no default: it shows what it is told.

import { isCurl, readCurl } from "./curl.js";
import { Desk } from "./desk.js";
import { by, h, icon, sentence, settled } from "./dom.js";
import { Editor } from "./editor.js";
import { Browser, Control, Fault } from "./engine.js";
import { EXAMPLES, textOf } from "./examples.js";
import { Live } from "./live.js";
import { pack, unpack } from "./share.js";
import { Drawing, verdictOf } from "./tree.js";

const PAUSE_MS = 180;
const KEPT = "sentinel-playground";
const THEMES = ["auto", "light", "dark"];
const FILE = "sentinel.kdl";

class Page {
  constructor() {
    this.isComparing = false;
    this.record = null; // a recorded request that is looked at instead of a decision
    this.answer = null;
    this.editors = ["Configuration A", "Configuration B"].map((label, at) =>
      new Editor(label, FILE, () => this.changed(at)));
    this.drawing = new Drawing((side, place) => this.jump(side, place));
    this.desk = new Desk(by("desk"), by("reset"), () => this.changed());
    this.fields = { method: by("r-method"), url: by("r-url"), headers: by("r-headers"), client_ip: by("r-client"),
      listener: by("r-listener"), body: by("r-body") };
    this.soon = settled(() => this.ask(), PAUSE_MS);
    this.number = 0;
  }

  async start() {
    this.#theme(localStorage.getItem("sentinel-theme") ?? "auto");
    this.#wire();
    this.#arrange();
    const isStatic = document.documentElement.dataset.engine === "pyodide";
    const starting = (isStatic ? new Browser() : new Control(askToken)).start();
    await this.#restore();
    by("engine").textContent = isStatic ? "loading Python…" : "connecting…";
    try {
      this.engine = await starting;
    } catch (fault) {
      return this.#failed(fault);
    }
    if (this.engine.isLive) {
      this.live = new Live(by("pane-live"), this.engine, (record) => this.#recorded(record), (fault) => this.#failed(fault));
      by("tab-live").hidden = false;
    }
    await this.ask();
  }

  // What is asked.

  get question() {
    const { method, url, headers, client_ip, listener, body } = this.fields;
    const texts = this.editors.slice(0, this.isComparing ? 2 : 1).map((editor) => ({ name: FILE, text: editor.text }));
    const lines = headers.value.split("\n").map((line) => line.trim()).filter(Boolean);
    return {
      configurations: texts,
      request: {
        line: `${method.value.trim() || "GET"} ${url.value.trim() || "/"}`, headers: lines,
        client_ip: client_ip.value.trim() || "127.0.0.1", listener: listener.value,
        body_bytes: /^\d{1,18}$/.test(body.value.trim()) ? Number(body.value.trim()) : -1,
      },
      settings: this.desk.settings,
    };
  }

  changed() {
    this.record = null;
    document.body.classList.add("asking");
    this.soon();
  }

  async ask() {
    if (!this.engine) return;
    const number = ++this.number;
    try {
      const answer = await this.engine.ask(this.question);
      if (number !== this.number) return; // a later question is under way
      this.answer = answer;
      by("engine").textContent = this.engine.isLive ? "answered by control" : "Python in this browser";
      by("engine").dataset.kind = "ok";
      this.#show();
    } catch (fault) {
      if (number === this.number) this.#failed(fault);
    } finally {
      if (number === this.number) document.body.classList.remove("asking");
    }
    this.#keep();
  }

  // What came of it.

  #show() {
    const { sides, difference, reasons } = this.answer;
    sides.forEach((side, at) => this.editors[at].show(side));
    const desk = sides.find((side) => side.desk)?.desk;
    if (desk) {
      this.desk.show(desk);
      this.#listeners(desk.listeners);
    }
    if (this.record) return;
    const root = by("decision");
    if (this.isComparing && sides.length > 1) {
      if (difference) {
        root.replaceChildren(this.#comparison(sides, difference), this.drawing.two(sides, difference, reasons),
          ...this.#elsewhere(this.answer.elsewhere));
      }
      else root.replaceChildren(...sides.map((side, at) => this.#none(side, "AB"[at])).filter(Boolean));
      this.#speak(difference?.is_same ? "Both decide the same" : "The decisions differ");
      return;
    }
    const [side] = sides;
    if (!side.decision) return root.replaceChildren(this.#none(side));
    const verdict = verdictOf(side.decision, side.decision.tree);
    this.#speak(side.decision.tree.children.at(-1).text);
    root.replaceChildren(
      this.#headline(side.decision, verdict),
      this.drawing.one(side.decision.tree, side.decision, reasons),
      this.#heads(side.decision),
    );
  }

  #headline(decision, verdict) {
    const facts = decision.verdict === "forward"
      ? [decision.upstream, decision.endpoint]
      : [decision.reason];
    return h("div", { class: "headline", data: { tone: verdict.tone } },
      h("span", { class: "seal" }, icon(verdict.drawing)),
      h("div", {},
        h("p", { class: "big" }, decision.verdict === "forward" ? "Forwarded" : decision.verdict === "respond" ? `Answered ${decision.status}` : `Refused with ${decision.status}`),
        h("p", { class: "facts" }, decision.route ? h("span", {}, "route ", h("b", {}, decision.route)) : h("span", {}, "no route"),
          ...facts.filter(Boolean).map((fact) => h("span", {}, fact)))));
  }

  #comparison(sides, difference) {
    const cell = (side, at) => {
      const verdict = verdictOf(side.decision, side.decision.tree);
      return h("div", { class: "side", data: { tone: verdict.tone } }, h("span", { class: "tag" }, "AB"[at]), h("b", {}, verdict.word),
        h("span", {}, side.decision.route ? `route ${side.decision.route}` : side.decision.reason));
    };
    const verdict = difference.is_same
      ? h("span", { class: "same" }, "both decide the same, step by step")
      : h("button", { type: "button", class: "link", on: { click: () => by("parting")?.scrollIntoView({ block: "center" }) } }, "show the first step that differs");
    return h("div", { class: "versus" }, cell(sides[0], 0), cell(sides[1], 1), verdict);
  }

  /** Which other requests the two treat differently. */
  #elsewhere(report) {
    if (!report) return [];
    const count = report.differing + report.renamed;
    const whole = `of ${report.total}${report.left_off ? " and more" : ""} requests made from both configurations`;
    return [h("section", { class: "elsewhere" },
      h("h3", {}, count ? `${count} ${whole} are treated differently` : `None ${whole} is treated differently`),
      ...report.groups.map((group) => h("article", {},
        h("p", {}, h("b", {}, String(group.count)), " ", sentence(group.text), group.because ? h("span", { class: "aside" }, sentence(` ${group.because}`)) : null),
        group.before !== group.after ? h("p", { class: "turn" }, h("span", {}, sentence(group.before)), " → ", h("span", {}, sentence(group.after))) : null,
        h("p", { class: "chips" }, ...group.examples.map((example) => this.#chipOf(example))))),
      report.groups_more ? h("p", { class: "hint" }, `${report.groups_more} more ways to differ; \`sentinelctl diff\` tells all.`) : null)];
  }

  #chipOf(example) {
    const [, method, host, target, notes = ""] = /^([A-Z-]+) ([^/\s]*)(\/\S*|\*)(?: \((.*)\))?$/s.exec(example) ?? [];
    if (!method || /…|not shown/.test(example)) return h("span", { class: "chip" }, example);
    const ask = () => {
      const told = notes ? notes.split("; ") : [];
      this.#fill({ method, url: target, headers: [`host: ${host}`, ...told.filter((one) => !one.startsWith("at `"))].join("\n"),
        listener: /at `(.*)`/.exec(notes)?.[1] ?? "" });
      this.changed();
    };
    return h("button", { type: "button", class: "chip", title: "Ask this one", on: { click: ask } }, example);
  }

  #none(side, tag = "") {
    if (tag && side.decision) return null;
    const count = side.problems.length + side.problems_more;
    const text = count
      ? `${tag ? `Configuration ${tag}` : "The configuration"} has ${count} ${count === 1 ? "problem" : "problems"}, so it decides nothing.`
      : side.fault || "Nothing was asked.";
    this.#speak(text);
    return h("div", { class: "none" }, h("p", {}, text),
      count ? h("p", { class: "hint" }, "Each is underlined at its place, and listed with its remedy below the text. Nothing is served until all are mended, and so it is with a fleet.") : null);
  }

  #heads(decision) {
    const table = (title, rows, hint) => rows.length
      ? h("details", { class: "head" }, h("summary", {}, title, h("small", {}, hint)),
          h("table", {}, h("tbody", {}, ...rows.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))))))
      : null;
    return h("div", { class: "heads" },
      table(decision.verdict === "forward" ? "Fields that the gateway adds to the answer" : "The head of the answer", decision.answer, ` ${decision.answer.length}`),
      table("What the upstream would read", decision.sent, ` ${decision.sent.length}`));
  }

  // A request of the past.

  async #recorded(record) {
    this.record = record;
    const root = record.explanation;
    const verdict = verdictOf(null, root);
    verdict.word = String(record.status);
    verdict.tone = record.status >= 500 ? "bad" : record.status >= 400 ? "warn" : "good";
    const words = (node) => [node.reason, ...node.children.flatMap(words)];
    const reasons = [...new Set(words(root).filter(Boolean))];
    const { reasons: meanings } = await this.engine.ask({ configurations: [{ name: FILE, text: "" }], reasons });
    if (this.record !== record) return; // another one was opened meanwhile
    const replay = h("button", { type: "button", class: "main", on: { click: () => this.#replay(record) } }, "Replay in the editor");
    const back = h("button", { type: "button", class: "quiet", on: { click: () => { this.record = null; this.#show(); } } }, "Back");
    by("decision").replaceChildren(
      h("div", { class: "recorded" }, h("div", {}, h("p", { class: "big" }, "A recorded request"), h("p", { class: "facts" }, h("span", {}, record.time), h("span", {}, record.request_id))), h("span", { class: "spring" }), replay, back),
      this.drawing.one(root, { verdict: record.status < 400 && record.upstream ? "forward" : "", status: record.status }, meanings),
    );
    this.#speak(root.text);
  }

  #replay(record) {
    const { method, url, client_ip, listener, headers, body } = this.fields;
    const known = [...listener.options].some((one) => one.value === record.listener);
    method.value = record.method;
    url.value = record.path || "/";
    headers.value = record.host ? `host: ${record.host}` : "";
    client_ip.value = /^[\da-f.:]+$/i.test(record.client_ip) ? record.client_ip : "127.0.0.1";
    listener.value = known ? record.listener : "";
    body.value = record.bytes_in && record.method !== "GET" ? String(record.bytes_in) : "";
    this.#tab("ask");
    this.changed();
  }

  // Places.

  jump(side, place) {
    const [, file, line, column] = /^(.*):(\d+):(\d+)$/s.exec(place) ?? [];
    if (!file) return;
    const end = this.record ? 0 : this.answer?.sides[side]?.ends[place] ?? 0;
    if (this.record && file.split("/").at(-1) !== FILE) {
      this.#speak(`${place} is a place in the configuration of the fleet`);
    }
    this.editors[side].select(Number(line), Number(column), end);
  }

  // Around it.

  #wire() {
    for (const field of Object.values(this.fields)) field.addEventListener("input", () => this.changed());
    by("request").addEventListener("submit", (event) => event.preventDefault());
    this.fields.url.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text");
      if (!isCurl(text)) return;
      event.preventDefault();
      this.#curl(text);
    });
    this.fields.url.addEventListener("change", () => isCurl(this.fields.url.value) && this.#curl(this.fields.url.value));
    by("compare").addEventListener("click", () => this.#compare(!this.isComparing));
    by("share").addEventListener("click", () => this.#share());
    by("theme").addEventListener("click", () => {
      const now = document.documentElement.dataset.theme ?? "auto";
      this.#theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
    });
    by("brand").addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(null, "", location.pathname);
      this.isComparing = false;
      this.#arrange();
      this.#example(EXAMPLES[0]);
    });
    const examples = by("examples");
    examples.append(...EXAMPLES.map((one) => h("option", { value: one.file }, one.title)));
    examples.addEventListener("change", () => {
      const chosen = EXAMPLES.find((one) => one.file === examples.value);
      examples.value = "";
      if (chosen) this.#example(chosen);
    });
    const tabs = [by("tab-ask"), by("tab-live")];
    tabs.forEach((tab, at) => {
      tab.addEventListener("click", () => this.#tab(tab.id.slice(4)));
      tab.addEventListener("keydown", (event) => {
        if (!["ArrowLeft", "ArrowRight"].includes(event.key) || tabs[1 - at].hidden) return;
        this.#tab(tabs[1 - at].id.slice(4));
        tabs[1 - at].focus();
      });
    });
    addEventListener("hashchange", () => this.#fromFragment());
    addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.ask();
    });
  }

  #arrange() {
    by("editors").replaceChildren(...this.editors.slice(0, this.isComparing ? 2 : 1).map((editor) => editor.root));
    document.body.classList.toggle("comparing", this.isComparing);
    by("compare").setAttribute("aria-pressed", String(this.isComparing));
  }

  #compare(isComparing) {
    if (isComparing && !this.editors[1].text) this.editors[1].text = this.editors[0].text;
    this.isComparing = isComparing;
    this.#arrange();
    this.changed();
  }

  #tab(name) {
    for (const one of ["ask", "live"]) {
      by(`tab-${one}`).setAttribute("aria-selected", String(one === name));
      by(`tab-${one}`).tabIndex = one === name ? 0 : -1;
      by(`pane-${one}`).hidden = one !== name;
    }
    if (name === "live") this.live.start();
    else this.live?.stop();
  }

  #listeners(listeners) {
    const select = this.fields.listener;
    const key = JSON.stringify(listeners);
    if (select.dataset.key === key) return;
    const before = select.value || this.wanted || "";
    select.dataset.key = key;
    select.replaceChildren(h("option", { value: "" }, "as the URL says"),
      ...listeners.map((one) => h("option", { value: one.name }, `${one.name} (${one.scheme}, ${one.address})`)));
    select.value = listeners.some((one) => one.name === before) ? before : "";
  }

  #curl(text) {
    const told = readCurl(text);
    if (told.fault) return this.#speak(told.fault, true);
    this.#fill({ method: told.method, url: told.url, headers: told.headers.join("\n"), body: told.body === null ? "" : String(told.body) });
    this.changed();
  }

  #fill({ method = "GET", url = "/", headers = "", body = "", client_ip = "127.0.0.1", listener = "" }) {
    const texts = { method, url, headers, body, client_ip };
    for (const [name, value] of Object.entries(texts)) this.fields[name].value = typeof value === "string" ? value : "";
    this.wanted = typeof listener === "string" ? listener : "";
    this.fields.listener.value = this.wanted;
  }

  async #example(example) {
    this.number++; // what was asked before is not waited for any more
    document.body.classList.add("asking");
    try {
      this.editors[0].text = await textOf(example.file);
    } catch (fault) {
      return this.#failed(fault);
    }
    this.editors[1].text = "";
    if (this.isComparing) this.editors[1].text = this.editors[0].text;
    this.#fill(example.request);
    this.desk.restore(Desk.empty());
    this.changed();
  }

  // Keeping and sharing.

  get #everything() {
    return {
      texts: this.editors.map((editor) => editor.text).slice(0, this.isComparing ? 2 : 1), isComparing: this.isComparing,
      request: Object.fromEntries(Object.entries(this.fields).map(([name, field]) => [name, field.value])),
      settings: this.desk.settings,
    };
  }

  #keep() {
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(this.#everything));
    } catch {
      // It is full, or not allowed: then a reload begins anew.
    }
  }

  async #restore() {
    if (await this.#fromFragment()) return;
    let kept = null;
    try {
      kept = JSON.parse(sessionStorage.getItem(KEPT));
    } catch {
      // Not ours.
    }
    if (!this.#take(kept)) await this.#example(EXAMPLES[0]);
  }

  async #fromFragment() {
    const value = await unpack(location.hash);
    return value !== null && this.#take(value);
  }

  #take(value) {
    if (typeof value !== "object" || value === null || !Array.isArray(value.texts) || typeof value.texts[0] !== "string") return false;
    value.texts.slice(0, 2).forEach((text, at) => (this.editors[at].text = String(text)));
    this.#fill(typeof value.request === "object" && value.request !== null ? value.request : {});
    this.desk.restore(typeof value.settings === "object" && value.settings !== null ? value.settings : {});
    this.isComparing = Boolean(value.isComparing) && value.texts.length > 1;
    this.#arrange();
    this.changed();
    return true;
  }

  async #share() {
    const fragment = await pack(this.#everything);
    if (!fragment) return this.#speak("This is too long for a link: share the files instead", true);
    history.replaceState(null, "", fragment);
    try {
      await navigator.clipboard.writeText(location.href);
      this.#speak("The link is copied, and in the address bar. It holds the configuration: share it with whom you would give the file", true);
    } catch {
      this.#speak("The link is in the address bar. It holds the configuration: share it with whom you would give the file", true);
    }
  }

  #theme(theme) {
    const chosen = THEMES.includes(theme) ? theme : "auto";
    document.documentElement.dataset.theme = chosen;
    localStorage.setItem("sentinel-theme", chosen);
    by("theme").textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[chosen];
  }

  #speak(text, isShown = false) {
    by("spoken").textContent = text;
    by("spoken").classList.toggle("shown", isShown);
    clearTimeout(this.hiding);
    if (isShown) this.hiding = setTimeout(() => by("spoken").classList.remove("shown"), 6000);
  }

  #failed(fault) {
    if (!(fault instanceof Fault)) console.error(fault.stack ?? fault); // a mistake of this page
    by("engine").textContent = fault.message;
    by("engine").title = fault.remedy ?? "";
    by("engine").dataset.kind = "error";
    this.#speak(`${fault.message}${fault.remedy ? `: ${fault.remedy}` : ""}`, true);
    document.body.classList.remove("asking");
  }
}

/** Ask the person for the token of the admin API; "" when there is none to be had. */
function askToken() {
  const dialog = by("token");
  by("t-value").value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? by("t-value").value.trim() : ""), { once: true });
  });
}

await new Page().start();
