// The worker in which Python runs, where there is no server. Everything it loads lies beside it.

import { loadPyodide } from "./pyodide/pyodide.mjs";

try {
  const python = await loadPyodide({ indexURL: new URL("pyodide/", import.meta.url).href });
  const sources = await fetch(new URL("sentinel.zip", import.meta.url));
  if (!sources.ok) throw new Error(`sentinel.zip: ${sources.status}`);
  python.unpackArchive(await sources.arrayBuffer(), "zip", { extractDir: "/home/pyodide" });
  const { answer } = python.pyimport("sentinel.playground.browser");
  self.onmessage = ({ data: { number, text } }) => {
    try {
      self.postMessage({ number, text: answer(text) });
    } catch (fault) {
      self.postMessage({ number, error: String(fault) });
    }
  };
  self.postMessage({ ready: true });
} catch (fault) {
  self.postMessage({ fault: String(fault) });
}
