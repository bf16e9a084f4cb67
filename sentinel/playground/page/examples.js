// Configurations to begin with, each with a request that shows what it is about. The texts are those of
// deploy/examples, which a test compares.

export const EXAMPLES = [
  { file: "governed.kdl", title: "Routes, limits, breakers and a split",
    request: { method: "POST", url: "http://api.example.com/v1/orders?draft=1", headers: "x-tenant: acme\nx-api-version: 1", body: "512" } },
  { file: "minimal.kdl", title: "The least that serves", request: { method: "GET", url: "http://localhost:8080/", headers: "", body: "" } },
  { file: "behind-proxy.kdl", title: "Behind load balancers",
    request: { method: "GET", url: "http://localhost:8080/v1", headers: "x-forwarded-for: 203.0.113.9, 10.0.0.4", body: "", client_ip: "10.0.0.7" } },
];

/** The text of an example. */
export async function textOf(file) {
  const response = await fetch(new URL(`examples/${file}`, import.meta.url));
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return response.text();
}
