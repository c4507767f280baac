// The OpenAPI document as a page: each route with what it takes, what it answers, and an example of both.

// HEAD is wherever GET is, and says nothing that GET does not.
const METHODS = ["get", "post", "put", "delete"];

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function example(content) {
  const [type, media] = Object.entries(content ?? {})[0] ?? [];
  if (!media) return null;
  const value = media.example ?? Object.values(media.examples ?? {})[0]?.value;
  return value === undefined ? element("p", { className: "help" }, `${Object.keys(content).join(", ")}`)
    : element("pre", {}, element("code", {}, `${type}\n${JSON.stringify(value, null, 2)}`));
}

function answers(responses) {
  return element("dl", {}, ...Object.entries(responses).map(([status, answer]) =>
    element("div", {}, element("dt", {}, status), element("dd", {}, answer.description))));
}

function fields(document) {
  const { properties, required = [] } = document.components.schemas.TrackSpec;
  const rows = Object.entries(properties).map(([name, property]) => element("div", {},
    element("dt", {}, element("code", {}, name), required.includes(name) ? " (needed)" : ""),
    element("dd", {}, property.description ?? "", property.default != null ? ` Default: ${property.default}.` : "")));
  return element("section", { className: "route" }, element("h2", {}, "Fields of a request"), element("dl", {}, ...rows));
}

function route(method, path, operation) {
  const parameters = (operation.parameters ?? []).filter((parameter) => parameter.in === "query");
  const success = Object.entries(operation.responses).find(([status]) => status.startsWith("2"))?.[1];
  return element("section", { className: "route" },
    element("h2", {}, element("code", {}, `${method.toUpperCase()} ${path}`)),
    element("p", {}, operation.summary + "."),
    operation.description ? element("p", { className: "help" }, operation.description) : null,
    parameters.length ? element("p", { className: "help" }, `Query: ${parameters.map((parameter) => parameter.name).join(", ")}`) : null,
    example(operation.requestBody?.content),
    answers(operation.responses),
    example(success?.content));
}

try {
  const openapi = await (await fetch("openapi.json")).json();
  const routes = Object.entries(openapi.paths).flatMap(([path, operations]) =>
    METHODS.filter((method) => operations[method]).map((method) => route(method, path, operations[method])));
  document.getElementById("routes").replaceChildren(...routes, fields(openapi));
} catch {
  document.getElementById("routes").textContent = "The document cannot be read at the moment. Is the server still there? Then load this page again.";
}
