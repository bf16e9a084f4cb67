// Everything on the page as a fragment of its address. A fragment is never sent to a server.

const PREFIX = "#p1=";
const FRAGMENT_CHARS_MAX = 64 * 1024;
const TEXT_BYTES_MAX = 1 << 20; // what a fragment may unfold to: somebody else may have written it

export async function pack(value) {
  const octets = await through(new Blob([JSON.stringify(value)]), new CompressionStream("deflate-raw"), TEXT_BYTES_MAX);
  let text = "";
  for (const octet of octets) text += String.fromCharCode(octet);
  const fragment = PREFIX + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  return fragment.length > FRAGMENT_CHARS_MAX ? null : fragment;
}

/** The value of a fragment; null when there is none, or it is not one of ours. */
export async function unpack(fragment) {
  if (!fragment.startsWith(PREFIX) || fragment.length > FRAGMENT_CHARS_MAX) return null;
  try {
    const text = atob(fragment.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
    const packed = Uint8Array.from(text, (one) => one.charCodeAt(0));
    const octets = await through(new Blob([packed]), new DecompressionStream("deflate-raw"), TEXT_BYTES_MAX);
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(octets));
  } catch {
    return null;
  }
}

async function through(blob, transform, most) {
  const parts = [];
  let length = 0;
  const reader = blob.stream().pipeThrough(transform).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > most) {
      await reader.cancel();
      throw new RangeError("too long");
    }
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
