// The decision, drawn: a trunk of the steps that were taken, with branches for what was passed over, ending in
// the verdict. Two decisions stand side by side, row by row, with the first step that differs marked.
//
// It is a tree for the keyboard and for screen readers too (WAI-ARIA): arrows walk it, left and right fold it.

import { h, icon, sentence } from "./dom.js";

const NOT_TAKEN = new Set(["loser", "group"]);
const KINDS = {
  request: "request", step: "step taken", loser: "passed over", group: "passed over", note: "note", verdict: "verdict",
};

/** How a verdict reads at a glance: its word, its tone, its drawing. */
export function verdictOf(decision, root) {
  if (decision?.verdict === "forward") return { word: "forward", tone: "good", drawing: "forward" };
  if (decision?.verdict === "respond") return { word: String(decision.status), tone: "calm", drawing: "respond" };
  const text = root.children.at(-1)?.text ?? "";
  const status = decision?.status ?? Number(/\b[1-5]\d\d\b/.exec(text)?.[0] ?? 0);
  const tone = status >= 500 ? "bad" : status >= 400 ? "warn" : "good";
  const { reason = "" } = root.children.at(-1) ?? {};
  return { word: String(status || "?"), tone, drawing: status >= 400 ? "reject" : "respond", reason };
}

/** Draws trees; `jump(side, place)` goes to a place of the configuration, `reasons` says what words mean. */
export class Drawing {
  constructor(jump) {
    this.jump = jump;
    this.unfolded = new Set();
  }

  /** One decision: steps not taken are folded under one branch. */
  one(root, decision, reasons, side = 0) {
    this.reasons = reasons;
    const tree = h("div", { role: "tree", class: "tree", "aria-label": "The decision, step by step" });
    const verdict = verdictOf(decision, root);
    this.#grow(tree, root, 1, side, { verdict, isRoot: true });
    let lost = [];
    const flush = () => {
      if (lost.length > 1) this.#fold(tree, lost, side);
      else if (lost.length) this.#grow(tree, lost[0], 2, side, { verdict });
      lost = [];
    };
    for (const child of root.children) {
      if (NOT_TAKEN.has(child.kind)) {
        lost.push(child);
        continue;
      }
      flush();
      this.#grow(tree, child, 2, side, { verdict });
    }
    flush();
    this.#finish(tree);
    return tree;
  }

  /** Two decisions, laid side by side as `difference` says. */
  two(sides, difference, reasons) {
    this.reasons = reasons;
    const board = h("div", { class: "board" });
    sides.forEach(({ decision }, side) => {
      const root = decision.tree;
      const tree = h("div", { role: "tree", class: "tree column", "aria-label": `Decision of configuration ${"AB"[side]}` });
      const verdict = verdictOf(decision, root);
      this.#grow(tree, root, 1, side, { verdict, isRoot: true, row: 1 });
      difference.rows.forEach((row, at) => {
        const index = side ? row.right : row.left;
        const place = { row: 2 + at * 2, differs: !row.is_same, isFirst: at === difference.first };
        if (index !== null) this.#grow(tree, root.children[index], 2, side, { verdict, ...place });
        else {
          const gap = h("div", { class: "gap", role: "none", "aria-hidden": "true" });
          gap.style.gridRow = String(place.row);
          tree.append(gap);
        }
      });
      this.#finish(tree);
      board.append(tree);
    });
    if (difference.first !== null) {
      const sign = h("div", { class: "parting", id: "parting" }, h("span", {}, "first step that differs"));
      sign.style.gridRow = String(1 + difference.first * 2);
      if (difference.first === 0) sign.style.gridRow = "2";
      board.append(sign);
    }
    return board;
  }

  #fold(tree, lost, side) {
    const key = `${side}:lost`;
    const isOpen = this.unfolded.has(key);
    const rows = [];
    const text = `${lost.length} better ranked candidates were passed over`;
    const fold = this.#row({ kind: "group", text, reason: "", place: "" }, 2, side, {});
    fold.classList.add("fold");
    fold.classList.remove("branch");
    fold.setAttribute("aria-expanded", String(isOpen));
    fold.querySelector(".disc").replaceChildren(icon("chevron"));
    const toggle = (open = fold.getAttribute("aria-expanded") !== "true") => {
      fold.setAttribute("aria-expanded", String(open));
      for (const row of rows) row.hidden = !open;
      if (open) this.unfolded.add(key);
      else this.unfolded.delete(key);
    };
    fold.toggle = toggle;
    fold.querySelector(".statement").addEventListener("click", () => toggle());
    tree.append(fold);
    for (const one of lost) rows.push(...this.#grow(tree, one, 3, side, {}));
    for (const row of rows) row.hidden = !isOpen;
  }

  /** Append a node and its children; returns the rows. */
  #grow(tree, node, level, side, about) {
    const row = this.#row(node, level, side, about);
    tree.append(row);
    const rows = [row];
    if (!about.isRoot && node.children.length) {
      if (about.row) {
        for (const child of node.children) row.querySelector(".statement").append(h("p", { class: "aside" }, sentence(child.text)));
      } else for (const child of node.children) rows.push(...this.#grow(tree, child, level + 1, side, {}));
    }
    return rows;
  }

  #row(node, level, side, about) {
    const isVerdict = node.kind === "verdict";
    const row = h("div", {
      role: "treeitem", class: `node k-${node.kind}${NOT_TAKEN.has(node.kind) ? " lost branch" : ""}`, tabindex: "-1",
      "aria-level": level, "aria-label": `${KINDS[node.kind] ?? node.kind}: ${node.text}${node.reason ? `, ${node.reason}` : ""}`,
    });
    row.dataset.level = level;
    if (about.row) row.style.gridRow = String(about.row);
    if (about.differs) row.classList.add("differs");
    if (about.isFirst) row.classList.add("first");
    // The step that ended it: it concluded what the verdict says, and the verdict is a refusal.
    const isEnd = node.kind === "step" && about.verdict?.drawing === "reject" && node.reason === about.verdict.reason;
    if (isEnd) row.dataset.tone = about.verdict.tone;
    const disc = h("span", { class: "disc" }, icon(isVerdict && about.verdict ? about.verdict.drawing : isEnd ? "loser" : node.kind));
    const statement = h("div", { class: "statement" });
    if (isVerdict && about.verdict) {
      row.dataset.tone = about.verdict.tone;
      statement.append(h("span", { class: "status" }, about.verdict.word));
    }
    statement.append(h("span", { class: "said" }, node.kind === "request" ? node.text : sentence(node.text)));
    const chips = h("span", { class: "chips" });
    if (node.reason) chips.append(this.#reason(row, node));
    if (node.place) chips.append(this.#place(node.place, side));
    if (chips.children.length) statement.append(chips);
    row.append(disc, statement);
    return row;
  }

  #reason(row, node) {
    const chip = h("button", { type: "button", class: "chip reason", tabindex: "-1", "aria-expanded": "false", title: "What this reason means" }, node.reason);
    chip.addEventListener("click", () => {
      const open = row.querySelector(".meaning");
      chip.setAttribute("aria-expanded", String(!open));
      if (open) return open.remove();
      const meaning = this.reasons[node.reason];
      const facts = [
        meaning?.status ? `answer ${meaning.status}` : "",
        meaning && meaning.culprit !== "none" ? `concerns the ${meaning.culprit}` : "",
      ].filter(Boolean);
      return row.querySelector(".statement").append(
        h("div", { class: "meaning" },
          h("p", {}, sentence(meaning?.text ?? "This release does not know this reason.")),
          h("p", { class: "remedy" }, h("b", {}, "Remedy "), sentence(meaning?.remedy || node.remedy || "nothing to do")),
          facts.length ? h("p", { class: "facts" }, facts.join(" · ")) : null,
        ),
      );
    });
    return chip;
  }

  #place(place, side) {
    return h("button", { type: "button", class: "chip place", tabindex: "-1", title: "Show it in the configuration",
      on: { click: () => this.jump(side, place) } }, icon("place"), place);
  }

  #finish(tree) {
    const rows = () => [...tree.querySelectorAll(".node")].filter((row) => !row.hidden);
    const go = (row) => {
      if (!row) return;
      for (const one of tree.querySelectorAll('[tabindex="0"]')) one.tabIndex = -1;
      row.tabIndex = 0;
      row.focus();
    };
    if (rows().length) rows()[0].tabIndex = 0;
    tree.querySelector(".node:last-of-type")?.classList.add("last");
    tree.addEventListener("keydown", (event) => {
      const row = event.target.closest(".node");
      if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
      const all = rows();
      const at = all.indexOf(row);
      const level = Number(row.dataset.level);
      const buttons = [...row.querySelectorAll("button")];
      const onButton = buttons.indexOf(event.target);
      if (onButton >= 0 && (event.key === "Enter" || event.key === " ")) return; // the button's own
      const moves = {
        ArrowDown: () => go(all[at + 1]),
        ArrowUp: () => go(all[at - 1]),
        Home: () => go(all[0]),
        End: () => go(all.at(-1)),
        ArrowRight: () => {
          if (row.toggle && row.getAttribute("aria-expanded") === "false") row.toggle(true);
          else if (buttons[onButton + 1]) buttons[onButton + 1].focus();
        },
        ArrowLeft: () => {
          if (onButton >= 0) (buttons[onButton - 1] ?? row).focus();
          else if (row.toggle && row.getAttribute("aria-expanded") === "true") row.toggle(false);
          else go(all.slice(0, at).reverse().find((one) => Number(one.dataset.level) < level));
        },
        Enter: () => (row.toggle ? row.toggle() : row.querySelector(".reason, .place")?.click()),
        " ": () => (row.toggle ? row.toggle() : row.querySelector(".place")?.click()),
      };
      if (!moves[event.key]) return;
      event.preventDefault();
      moves[event.key]();
    });
    tree.addEventListener("focusin", (event) => {
      const row = event.target.closest(".node");
      if (!row || row.tabIndex === 0) return;
      for (const one of tree.querySelectorAll('.node[tabindex="0"]')) one.tabIndex = -1;
      row.tabIndex = 0;
    });
  }
}
