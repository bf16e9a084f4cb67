// Elements made of values. Text becomes text nodes and nothing else: there is no way here to turn what a
// client sent, or somebody wrote into a configuration, into markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `props`: `on` has listeners, `data` data attributes; true and false set and leave attributes. */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(made.dataset, value);
    } else if (name === "value" || name === "checked") {
      made[name] = value;
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** A sentence as explanations write it, with names between backticks. */
export function sentence(text) {
  return text.split(/`([^`]+)`/).map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/** One of the page's own drawings (`symbol` in index.html). */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export const by = (id) => document.getElementById(id);

/** Call with the last arguments once nothing was said for a while. */
export function settled(call, wait_ms) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...args), wait_ms);
  };
}
