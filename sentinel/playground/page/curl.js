// A curl command line that was pasted, as the fields of the form. The person sees what came of it before it is asked.

const VALUED = { "-X": "method", "--request": "method", "-H": "header", "--header": "header", "-d": "data", "--data": "data",
  "--data-raw": "data", "--data-binary": "data", "--data-ascii": "data", "--json": "json", "-A": "user-agent",
  "--user-agent": "user-agent", "-e": "referer", "--referer": "referer", "-b": "cookie", "--cookie": "cookie", "--url": "url" };
const FLAGS = { "-I": "head", "--head": "head", "-G": "get", "--get": "get" };
const ASIDE = new Set(["-s", "-S", "-v", "-i", "-k", "-L", "-f", "-N", "-g", "-sS", "--silent", "--verbose", "--include", "--insecure",
  "--location", "--fail", "--compressed", "--path-as-is", "--http1.1", "--show-error", "--no-buffer"]);
const ASIDE_VALUED = new Set(["-o", "--output", "-m", "--max-time", "--connect-timeout", "-w", "--write-out", "--cacert", "--resolve", "--retry"]);

export const isCurl = (text) => /^\s*curl\s/.test(text);

/** {method, url, headers, body}, or {fault} with the word that is not understood. */
export function readCurl(line) {
  const words = shellWords(line.replace(/\\\r?\n/g, " "));
  if (!words) return { fault: "the quotes of this command do not match" };
  const told = { method: "", url: "", headers: [], body: null };
  let isGet = false;
  for (let at = 1; at < words.length; at++) {
    let [word, value] = [words[at], null];
    if (word.startsWith("--") && word.includes("=")) [word, value] = [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)];
    else if (/^-[XHdAeb]./.test(word)) [word, value] = [word.slice(0, 2), word.slice(2)];
    if (ASIDE.has(word)) continue;
    if (ASIDE_VALUED.has(word)) {
      if (value === null) at++;
      continue;
    }
    if (FLAGS[word]) {
      if (FLAGS[word] === "head") told.method ||= "HEAD";
      else isGet = true;
      continue;
    }
    const name = VALUED[word];
    if (!name && word.startsWith("-") && word !== "-") return { fault: `the option ${word} of curl is not understood here` };
    if (!name) {
      told.url ||= word;
      continue;
    }
    value ??= words[++at] ?? "";
    if (name === "method") told.method = value;
    else if (name === "url") told.url = value;
    else if (name === "header") told.headers.push(value);
    else if (name === "data" || name === "json") {
      if (value.startsWith("@")) return { fault: "the body of this command is in a file; write its length instead" };
      told.body = told.body === null ? value : `${told.body}&${value}`;
      if (name === "json") told.headers.push("content-type: application/json", "accept: application/json");
    } else told.headers.push(`${name}: ${value}`);
  }
  if (!told.url) return { fault: "this command names no URL" };
  if (!/^https?:\/\//i.test(told.url) && !told.url.startsWith("/")) told.url = `http://${told.url}`;
  if (isGet && told.body !== null) {
    told.url += (told.url.includes("?") ? "&" : "?") + told.body;
    told.body = null;
  }
  const hasType = told.headers.some((one) => /^content-type\s*:/i.test(one));
  if (told.body !== null && !hasType) told.headers.push("content-type: application/x-www-form-urlencoded");
  told.method ||= told.body === null ? "GET" : "POST";
  return { ...told, body: told.body === null ? null : new TextEncoder().encode(told.body).length };
}

function shellWords(line) {
  const words = [];
  const piece = /\s+|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)|(['"])/gs;
  let word = null;
  for (const [, single, double, escaped, plain, open] of line.matchAll(piece)) {
    if (open) return null;
    const part = single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? plain;
    if (part === undefined) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? "") + part;
  }
  if (word !== null) words.push(word);
  return words;
}
