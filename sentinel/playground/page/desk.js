// The state of the fleet, as far as this configuration has any: what endpoints, breakers and limits are assumed to be.

import { h } from "./dom.js";

const MOST_SHOWN = 40;

export class Desk {
  /** `changed` is called when something was set. */
  constructor(root, reset, changed) {
    this.root = root;
    this.reset = reset;
    this.changed = changed;
    this.shape = "";
    this.set = Desk.empty();
    reset.addEventListener("click", () => this.restore(Desk.empty()));
  }

  static empty() {
    return { endpoints: [], open: [], remaining: {}, held: {}, chance: null };
  }

  /** What the function is asked with. */
  get settings() {
    return this.set;
  }

  restore(settings) {
    this.set = { ...Desk.empty(), ...settings };
    this.shape = "";
    if (this.desk) this.show(this.desk);
    this.changed();
  }

  /** Draw what can be set for a configuration; as long as that stays the same, nothing is drawn anew. */
  show(desk) {
    this.desk = desk;
    this.reset.hidden = JSON.stringify(this.set) === JSON.stringify(Desk.empty());
    const shape = JSON.stringify(desk);
    if (shape === this.shape) return;
    this.shape = shape;
    const groups = Object.entries(Object.groupBy(desk.endpoints.slice(0, MOST_SHOWN), (one) => one.upstream));
    const hidden = desk.endpoints.length + desk.endpoints_more - Math.min(desk.endpoints.length, MOST_SHOWN);
    this.root.replaceChildren(
      ...groups.map(([upstream, endpoints]) => this.#upstream(upstream, endpoints, desk.breakers.includes(upstream))),
      ...(hidden > 0 ? [h("p", { class: "hint" }, `${hidden} more endpoints are usable and idle.`)] : []),
      ...this.#limits("Rate limits", desk.remaining, "remaining", "left", (one) => one.most),
      ...this.#limits("Concurrency limits", desk.held, "held", "under way", () => 0),
      ...(desk.has_chance ? [this.#chance()] : []),
    );
    if (!this.root.children.length) this.root.append(h("p", { class: "hint" }, "This configuration decides without any state."));
  }

  #upstream(upstream, endpoints, hasBreaker) {
    const breaker = h("input", { type: "checkbox", checked: this.set.open.includes(upstream) });
    breaker.addEventListener("change", () => {
      this.set.open = this.set.open.filter((one) => one !== upstream);
      if (breaker.checked) this.set.open.push(upstream);
      this.#moved();
    });
    return h("fieldset", {},
      h("legend", {}, "upstream ", h("b", {}, upstream)),
      hasBreaker ? h("label", { class: "check" }, breaker, "its circuit breaker is open") : null,
      ...endpoints.map((one) => this.#endpoint(one)),
    );
  }

  #endpoint({ upstream, endpoint, standings }) {
    const known = this.set.endpoints.find((one) => one.upstream === upstream && one.endpoint === endpoint);
    const select = h("select", { "aria-label": `${endpoint} stands` },
      ...standings.map((word) => h("option", { value: word, selected: word === (known?.standing ?? "usable") }, word)));
    const busy = h("input", { type: "number", min: "0", max: "999999", value: known?.in_flight ?? "", placeholder: "0",
      "aria-label": `Requests in flight at ${endpoint}`, title: "Requests in flight" });
    const change = () => {
      this.set.endpoints = this.set.endpoints.filter((one) => one.upstream !== upstream || one.endpoint !== endpoint);
      const in_flight = Math.max(0, Math.trunc(Number(busy.value)) || 0);
      if (select.value !== "usable" || in_flight) this.set.endpoints.push({ upstream, endpoint, standing: select.value, in_flight });
      row.dataset.standing = select.value;
      this.#moved();
    };
    select.addEventListener("change", change);
    busy.addEventListener("input", change);
    const row = h("div", { class: "endpoint", data: { standing: known?.standing ?? "usable" } },
      h("span", { class: "address" }, endpoint), select, h("label", { class: "busy" }, busy, h("span", {}, "busy")));
    return row;
  }

  #limits(title, limits, what, unit, rest) {
    if (!limits.length) return [];
    return [h("fieldset", {}, h("legend", {}, title), ...limits.map((one) => this.#limit(one, what, unit, rest(one))))];
  }

  #limit(one, what, unit, rest) {
    const value = this.set[what][one.limit] ?? rest;
    const output = h("output", {}, `${value} ${unit}`);
    const slider = h("input", { type: "range", min: "0", max: one.most, value, "aria-label": `${one.limit}: ${unit}` });
    slider.value = value;
    slider.addEventListener("input", () => {
      const now = Number(slider.value);
      output.value = `${now} ${unit}`;
      if (now === rest) delete this.set[what][one.limit];
      else this.set[what][one.limit] = now;
      this.#moved();
    });
    const key = one.key.length ? `per ${one.key.join(", ")}` : "for all together";
    return h("label", { class: "slider" },
      h("span", { class: "limit" }, h("b", {}, one.limit), h("small", {}, `${key}, at most ${one.most}`)), slider, output);
  }

  #chance() {
    const dice = h("input", { type: "number", min: "0", max: "999999", placeholder: "0", value: this.set.chance ?? "" });
    dice.addEventListener("input", () => {
      this.set.chance = dice.value === "" ? null : Math.max(0, Math.trunc(Number(dice.value)) || 0);
      this.#moved();
    });
    return h("label", { class: "dice" }, h("span", {}, "Dice", h("small", {}, "where chance begins: splits and random choices follow it")), dice);
  }

  #moved() {
    this.reset.hidden = JSON.stringify(this.set) === JSON.stringify(Desk.empty());
    this.changed();
  }
}
