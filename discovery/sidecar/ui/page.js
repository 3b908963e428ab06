// Asks the sidecar what it knows, again and again while the page can be seen, and shows it.
// Whatever comes from ECS is put in as text, never as HTML.
"use strict";

const EVERY_MS = 2000;
const MOST_ROWS = 500;
const by = (id) => document.getElementById(id);
const shown = new Map(); // what each place shows, as JSON: what is the same is left alone
let services = [];
let index = null;
let token = sessionStorage.getItem("token");

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.map((child) => (child instanceof Node ? child : visible(child))));
  return made;
}

// Characters that cannot be seen, or turn the text around, are shown by their numbers.
function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}]/gu, (one) => `\\u{${one.codePointAt(0).toString(16)}}`);
}

// Put `make()` into a place if `data` is not what it shows already. Who had the focus keeps it.
function show(place, data, make) {
  const text = JSON.stringify(data);
  if (shown.get(place.id) === text) return;
  shown.set(place.id, text);
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(make());
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function say(id, text, kind = "") {
  const place = by(id), shownText = visible(text);
  if (place.textContent !== shownText) place.textContent = shownText;
  place.className = kind;
}

// A table whose rows are lists of cells; a cell is text, a node, or {text, kind}.
function table(caption, columns, rows, nothing) {
  if (!rows.length) return element("p", { class: "empty" }, nothing);
  const head = columns.map((name) => element("th", { scope: "col", role: "columnheader" }, name));
  const body = rows.slice(0, MOST_ROWS).map((cells) =>
    element("tr", { role: "row" }, ...cells.map((cell, n) => cellOf(cell, n, columns[n]))));
  const made = element("table", { role: "table" },
    element("caption", {}, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head)),
    element("tbody", { role: "rowgroup" }, ...body));
  if (rows.length <= MOST_ROWS) return made;
  return element("div", {}, made, element("p", { class: "dim" }, `${rows.length - MOST_ROWS} more`));
}

function cellOf(cell, n, label) {
  const { text, kind } = cell instanceof Node || typeof cell !== "object" ? { text: cell } : cell;
  const content = element("span", { class: kind }, text);
  return n === 0
    ? element("th", { scope: "row", role: "rowheader" }, content)
    : element("td", { role: "cell", "data-label": label }, content);
}

function seconds(value) {
  if (value === null || value === undefined) return "never";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

const shortTask = (arn) => (arn ? arn.split("/").pop() : "–");
const fullName = (service) => `${service.name}.${service.cluster}`;
const portText = (port) => `${port.name ? `${port.name} ` : ""}${port.container_port}/${port.protocol}`;
const healthKind = { healthy: "good", unknown: "dim", starting: "warn", draining: "warn", unhealthy: "bad" };

function showStatus(status) {
  say("state", status.ready ? "Ready" : `Not ready: ${status.waiting_for.join("; ")}`, status.ready ? "good" : "bad");
  const ages = status.clusters.map((each) => each.age_s).filter((age) => age !== null);
  say("age", ages.length ? `Read ${seconds(Math.max(...ages))} ago` : "Nothing read yet",
    Math.max(0, ...ages) > status.stale_after_s ? "warn" : "dim");
  show(by("clusters"), status.clusters, () => table("Clusters",
    ["Cluster", "Services", "Endpoints", "Excluded", "Read", "Last error"],
    status.clusters.map((each) => [
      each.name, each.services, each.endpoints, each.excluded,
      { text: each.age_s === null ? "never" : `${seconds(each.age_s)} ago`, kind: each.age_s > status.stale_after_s ? "warn" : "" },
      { text: each.error ?? "none", kind: each.error ? "bad" : "dim" },
    ]), "No cluster is known yet."));
  const budgets = status.budgets.filter((each) => each.available < each.capacity || each.factor < 1);
  show(by("budget"), [status.budgets.length, budgets], () => table("What is left of our share of the rate limits",
    ["Group", "Calls left", "Come back", "Throttled", "Endpoint"],
    budgets.map((each) => [
      each.group,
      { text: `${Math.floor(each.available)} of ${each.capacity}`, kind: each.available < 1 ? "warn" : "" },
      `${each.per_s} a second`,
      each.factor < 1 ? { text: `down to ${Math.round(each.factor * 100)} %`, kind: "bad" } : { text: "no", kind: "dim" },
      { text: each.endpoint, kind: "dim" },
    ]), status.budgets.length ? "Our whole share of the rate limits is left." : "None are made."));
}

function showServices() {
  const words = by("find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = services.filter((service) => {
    const text = [fullName(service), service.kind, ...service.ports.map(portText)].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  say("found", words.length ? `${wanted.length} of ${services.length} services` : `${services.length} services`, "dim");
  show(by("list"), wanted, () => table("Services",
    ["Service", "Cluster", "Endpoints", "Excluded", "Ports"],
    wanted.map((service) => [
      element("a", { href: `#/${encodeURIComponent(fullName(service))}`, "data-key": fullName(service) }, service.name),
      service.cluster,
      { text: service.endpoints, kind: service.endpoints ? "" : "bad" },
      { text: service.excluded, kind: service.excluded ? "warn" : "dim" },
      service.ports.map(portText).join(", ") || "–",
    ]), services.length ? "No service matches." : "No service is known yet."));
}

function showDetail(name, service, changes) {
  say("detail-title", name);
  say("detail-summary", `${service.kind === "family" ? "Standalone tasks" : "Service"}, read ${seconds(service.age_s)} ago` +
    (service.last_resort ? "; nothing healthy runs, so what runs is offered" : ""), service.stale || service.last_resort ? "warn" : "dim");
  show(by("endpoints"), service.endpoints, () => table(`Endpoints of ${name}`,
    ["Address", "Zone", "Port", "Health", "In flight", "Latency", "Ejected", "Task"],
    service.endpoints.map((each) => [
      each.host.includes(":") ? `[${each.host}]:${each.port}` : `${each.host}:${each.port}`,
      each.zone ?? "–",
      each.container_port === null ? "–" : portText({ name: each.port_name, container_port: each.container_port, protocol: each.protocol }),
      { text: each.health, kind: healthKind[each.health] },
      each.in_flight ?? 0,
      each.latency_s === null || each.latency_s === undefined ? "–" : seconds(each.latency_s),
      each.ejected ? { text: `${each.ejected.cause}: ${each.ejected.why}`, kind: "bad" } : { text: "no", kind: "dim" },
      { text: shortTask(each.task_arn), kind: "dim" },
    ]), "Nothing of it can be called."));
  show(by("excluded"), service.excluded, () => table(`Excluded tasks of ${name}`,
    ["Task", "Container", "Reason"],
    service.excluded.map((each) => [shortTask(each.task_arn), each.container ?? "–", each.reason]),
    "None."));
  const latest = [...changes].reverse();
  show(by("history"), latest, () => table(`Recent changes of ${name}`,
    ["When", "What", "Where", "Why"],
    latest.map((each) => [
      new Date(each.at * 1000).toLocaleTimeString(),
      each.kind,
      each.address ?? shortTask(each.task_arn),
      each.reason,
    ]), "None since this sidecar started."));
}

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  by("access").hidden = answer.status !== 401;
  const body = await answer.json();
  // Not being ready is an answer like any other, and says why.
  if (!answer.ok) throw new Error(body.error?.message ?? `${path}: status ${answer.status}`);
  return body;
}

function selected() {
  const written = location.hash.replace(/^#\/?/, "").replace(/^services$/, "");
  try {
    return decodeURIComponent(written);
  } catch {
    return written; // typed by hand
  }
}

async function look() {
  try {
    const status = await ask("/v1/status");
    showStatus(status);
    if (status.index !== index && status.clusters.some((each) => each.age_s !== null)) {
      services = (await ask("/v1/services")).services;
      index = status.index;
      showServices();
    }
    await lookAtDetail();
  } catch (error) {
    say("state", error instanceof TypeError ? "The sidecar does not answer" : error.message, "bad");
  }
}

async function lookAtDetail() {
  const name = selected();
  by("detail").hidden = !name;
  if (!name) return;
  const path = encodeURIComponent(name);
  try {
    const service = await ask(`/v1/services/${path}`);
    const history = await ask(`/v1/history/${path}`).catch(() => ({ changes: [] }));
    if (name === selected()) showDetail(name, service, history.changes);
  } catch (error) {
    if (error instanceof TypeError) throw error;
    say("detail-title", name);
    say("detail-summary", error.message, "bad");
    for (const id of ["endpoints", "excluded", "history"]) show(by(id), null, () => element("p", { class: "empty" }, "Nothing is known."));
  }
}

async function go() {
  await look();
  document.title = selected() ? `${selected()} – ecs-discovery` : "ecs-discovery";
  if (selected()) by("detail-title").focus();
}

function again() {
  setTimeout(async () => {
    if (!document.hidden) await look();
    again();
  }, EVERY_MS);
}

by("find").addEventListener("input", showServices);
by("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = by("token").value;
  sessionStorage.setItem("token", token);
  look();
});
window.addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => document.hidden || look());
look().then(again);
