// Colours for KDL text. Only colours: what a text means is asked of Python, here nobody decides anything.

const PIECE = /(\/\/[^\n]*|\/\*[^]*?(?:\*\/|$))|(r?#*"(?:[^"\\]|\\.)*"?)|(\((?:env|file)\))|([+-]?\d[\w.+-]*)|(true|false|null)(?![\w-])|([^\s{}();="\\/<>[\],]+)(=?)|([{};])|(\n)|([^])/g;
const COLOURED_MAX = 60_000;

/** Cut a text into [start, end, class]; what has no class is left out. */
export function colours(text) {
  if (text.length > COLOURED_MAX) return [];
  const found = [];
  let isStart = true; // of a node
  for (const match of text.matchAll(PIECE)) {
    const [whole, comment, string, secret, number, keyword, word, equals, mark, line] = match;
    const start = match.index;
    const end = start + whole.length;
    if (comment) found.push([start, end, "c-comment"]);
    else if (string) found.push([start, end, isStart ? "c-node" : "c-string"]);
    else if (secret) found.push([start, end, "c-secret"]);
    else if (number) found.push([start, end, "c-number"]);
    else if (keyword) found.push([start, end, "c-number"]);
    else if (word) found.push([start, start + word.length, isStart ? "c-node" : equals ? "c-prop" : "c-string"]);
    if (mark || line) isStart = true;
    else if (!comment && whole.trim()) isStart = false;
  }
  return found;
}
