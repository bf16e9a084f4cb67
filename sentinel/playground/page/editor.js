// The configuration editor: a textarea, and beneath it, glyph on glyph, a layer that is coloured and underlined.
// The person types into a plain textarea, with its undo, its selection and its screen reader; the layer is only seen.

import { colours } from "./colour.js";
import { by, h, sentence } from "./dom.js";

const INDENT = "    ";

/** Where a line and a column (in characters, from 1) are in a text (in UTF-16, from 0). */
export function offsetOf(text, line, column) {
  const lines = text.split("\n");
  const at = Math.min(Math.max(line, 1), lines.length) - 1;
  let offset = 0;
  for (let index = 0; index < at; index++) offset += lines[index].length + 1;
  return offset + [...lines[at]].slice(0, Math.max(column, 1) - 1).join("").length;
}

export class Editor {
  /** `changed` is called with the text; `label` names the editor. */
  constructor(label, name, changed) {
    this.changed = changed;
    this.marks = [];
    this.isLeaving = false;
    this.lines = h("div", { class: "lines", "aria-hidden": "true" });
    this.layer = h("pre", { class: "layer", "aria-hidden": "true" });
    this.area = h("textarea", {
      class: "text", spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off",
      "aria-label": `${label}. Escape, then Tab, leaves it.`, maxlength: 131072,
      on: {
        input: () => this.#typed(),
        keydown: (event) => this.#key(event),
        blur: () => (this.isLeaving = false),
        mousemove: (event) => this.#point(event),
        mouseleave: () => (by("tooltip").hidden = true),
      },
    });
    this.name = h("span", { class: "file" }, name);
    this.state = h("span", { class: "state" });
    this.scroll = h("div", { class: "scroll" }, h("div", { class: "sheet" }, this.lines, this.layer, this.area));
    this.problems = h("div", { class: "problems" });
    this.tag = h("span", { class: "tag" }, label.slice(-1));
    this.root = h("div", { class: "editor" }, h("div", { class: "title" }, this.tag, this.name, this.state), this.scroll, this.problems);
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.marks = [];
    this.scroll.scrollTop = 0;
    this.#draw();
  }

  /** Show what is wrong with the text, or that nothing is. */
  show({ problems, warnings, problems_more, assumed, fault }) {
    const told = [...problems.map((one) => [one, "error"]), ...warnings.map((one) => [one, "warning"])];
    this.marks = told.map(([one, kind]) => {
      const start = offsetOf(this.text, one.line, one.column);
      const end = Math.max(offsetOf(this.text, one.line, one.end || one.column + 1), start + 1);
      return { start, end, kind, problem: one };
    });
    this.#draw();
    const count = problems.length + problems_more;
    this.state.textContent = count ? `${count} ${count === 1 ? "problem" : "problems"}` : "valid";
    this.state.dataset.kind = count ? "error" : "ok";
    this.area.setAttribute("aria-invalid", String(count > 0));
    this.problems.replaceChildren(
      ...told.map(([one, kind]) => this.#problem(one, kind)),
      ...(problems_more ? [h("p", { class: "assumed" }, `${problems_more} more are not shown.`)] : []),
      ...assumed.map((note) => h("p", { class: "assumed" }, sentence(note))),
      ...(fault ? [h("p", { class: "assumed fault" }, sentence(fault))] : []),
    );
  }

  /** Put the cursor on a place, and select up to `end` (a column; 0: nothing). */
  select(line, column, end) {
    const start = offsetOf(this.text, line, column);
    this.area.focus({ preventScroll: true });
    this.area.setSelectionRange(start, end ? offsetOf(this.text, line, end) : start);
    const height = parseFloat(getComputedStyle(this.area).lineHeight);
    this.scroll.scrollTo({ top: Math.max(0, (line - 1) * height - this.scroll.clientHeight / 3), left: 0 });
    this.root.scrollIntoView({ block: "nearest" });
  }

  #problem(one, kind) {
    return h(
      "button",
      { type: "button", class: "problem", data: { kind }, on: { click: () => this.select(one.line, one.column, one.end) } },
      h("span", { class: "where" }, `${one.line}:${one.column}`),
      h("span", { class: "what" }, sentence(one.message), one.remedy ? h("span", { class: "remedy" }, sentence(one.remedy)) : null),
    );
  }

  #typed() {
    // Marks wander with the text until Python has looked at it: those behind the change no longer fit.
    const at = this.area.selectionStart;
    this.marks = this.marks.filter((mark) => mark.end < at);
    this.#draw();
    this.changed();
  }

  #key(event) {
    if (event.key === "Escape") {
      this.isLeaving = true;
      return;
    }
    if (event.key === "Tab" && !this.isLeaving && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      if (event.shiftKey) this.#outdent();
      else document.execCommand("insertText", false, INDENT); // keeps the undo history, which setting the value loses
      return;
    }
    if (event.key === "Enter" && !event.isComposing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      const before = this.text.slice(0, this.area.selectionStart);
      const line = before.slice(before.lastIndexOf("\n") + 1);
      const indent = /^[ \t]*/.exec(line)[0] + (/\{\s*$/.test(line) ? INDENT : "");
      document.execCommand("insertText", false, `\n${indent}`);
    }
    if (!["Shift", "Control", "Alt", "Meta"].includes(event.key)) this.isLeaving = false;
  }

  #outdent() {
    const at = this.area.selectionStart;
    const start = this.text.lastIndexOf("\n", at - 1) + 1;
    const blank = /^ {1,4}|^\t/.exec(this.text.slice(start))?.[0].length ?? 0;
    if (!blank) return;
    this.area.setSelectionRange(start, start + blank);
    document.execCommand("delete");
    this.area.setSelectionRange(Math.max(start, at - blank), Math.max(start, at - blank));
  }

  #point(event) {
    const under = document.elementsFromPoint(event.clientX, event.clientY).find((one) => one.dataset?.mark);
    const tooltip = by("tooltip");
    tooltip.hidden = !under;
    if (!under) return;
    const { problem } = this.marks[Number(under.dataset.mark)] ?? {};
    if (!problem) return;
    tooltip.replaceChildren(h("strong", {}, problem.message), problem.remedy ? h("span", {}, problem.remedy) : "");
    const { left, bottom } = under.getBoundingClientRect();
    tooltip.style.left = `${Math.min(left, innerWidth - tooltip.offsetWidth - 12)}px`;
    tooltip.style.top = `${bottom + 6}px`;
  }

  /** Draw the layer: the text in pieces, each with its colour and its mark. */
  #draw() {
    const text = this.text;
    const painted = colours(text);
    const cuts = new Set([0, text.length]);
    for (const [start, end] of painted) cuts.add(start).add(end);
    for (const { start, end } of this.marks) cuts.add(Math.min(start, text.length)).add(Math.min(end, text.length));
    const sorted = [...cuts].sort((a, b) => a - b);
    const pieces = [];
    let colour = 0;
    for (let index = 0; index + 1 < sorted.length; index++) {
      const [start, end] = [sorted[index], sorted[index + 1]];
      while (colour < painted.length && painted[colour][1] <= start) colour++;
      const name = colour < painted.length && painted[colour][0] <= start ? painted[colour][2] : "";
      const mark = this.marks.findIndex((one) => one.start <= start && end <= one.end);
      const part = text.slice(start, end);
      if (!name && mark < 0) pieces.push(part);
      else if (mark < 0) pieces.push(h("span", { class: name }, part));
      else pieces.push(h("mark", { class: `${name} m-${this.marks[mark].kind}`, data: { mark } }, part));
    }
    // A mark at the very end of the text has no character to stand under.
    const last = this.marks.findIndex((one) => one.start >= text.length);
    if (last >= 0) pieces.push(h("mark", { class: `m-${this.marks[last].kind}`, data: { mark: last } }, " "));
    this.layer.replaceChildren(...pieces, "\n");
    this.#number(text.split("\n").length);
  }

  #number(count) {
    const faulty = new Map(this.marks.map((mark) => [mark.problem.line, mark.kind]));
    const key = `${count}:${[...faulty.keys()].join()}`;
    if (this.lines.dataset.key === key) return;
    this.lines.dataset.key = key;
    this.lines.replaceChildren(
      ...Array.from({ length: count }, (_, index) => h("span", { class: faulty.has(index + 1) ? "bad" : "" }, String(index + 1))),
    );
  }
}
