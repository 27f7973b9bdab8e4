// The services, their nodes as they come and go, and a form for each method.

import { $, ask, example, h, many, nullable, onLinks, onLogin, onSearch, pretty, status, words } from "./common.js";

const cards = new Map();
const search = onSearch(() => [...cards.values()].map((card) => [card.element, card.service.name]));
const MAX_NODES = 200;
const MAX_EVENTS = 100;

/** Replaces everything by what there is now. */
function showAll(services) {
  const names = new Set(services.map((service) => service.name));
  for (const name of [...cards.keys()].filter((name) => !names.has(name))) drop(name);
  for (const service of services) {
    show(service);
    cards.get(service.name).serve(service.methods);
  }
  count();
}

/** Shows a service as it is now; forms of methods that are the same stay as they are filled in. */
function show(service) {
  let card = cards.get(service.name);
  if (!card) {
    card = new Card(service);
    cards.set(service.name, card);
    const after = [...$("services").children].find((other) => other.dataset.name > service.name);
    $("services").insertBefore(card.element, after ?? null);
  }
  card.update(service);
}

/** Shows a node as it is now, wherever it was before; without a version it has left. */
function place(name, id, now) {
  const service = cards.get(name)?.service ?? { name, versions: [], methods: [] };
  for (const version of service.versions) version.nodes = version.nodes.filter((node) => node.id !== id);
  if (now) {
    let version = service.versions.find((known) => known.version === now.version);
    if (!version) service.versions.push((version = { version: now.version, nodes: [] }));
    version.metadata = now.metadata;
    version.nodes.push(...now.nodes);
    version.nodes.sort((a, b) => compare(a.id, b.id));
  }
  service.versions = service.versions.filter((version) => version.nodes.length > 0);
  service.versions.sort((a, b) => compare(a.version, b.version));
  if (service.versions.length > 0) show(service);
  else drop(name);
}

/** Compares as people do: 10 comes after 9. */
const compare = new Intl.Collator("en", { numeric: true }).compare;

function drop(name) {
  cards.get(name)?.element.remove();
  cards.delete(name);
}

function count() {
  $("services").querySelector(".empty")?.remove();
  if (cards.size === 0) {
    $("services").append(h("p", { class: "empty" }, "Nobody is registered yet. Start a service, and it appears here."));
  }
  const nodes = [...cards.values()].reduce((sum, card) => sum + card.nodes.length, 0);
  status(`live: ${many(cards.size, "service")}, ${many(nodes, "node")}`, "good");
  search();
}

/** A service. What is inside is made when it is opened. */
class Card {
  constructor(service) {
    this.service = service;
    this.title = h("span", { class: "row" });
    this.table = h("div", { class: "scroll" });
    this.methods = h("div", { class: "methods" });
    this.forms = new Map();
    this.isDescribed = false;
    this.asked = 0;
    const inside = h("div", { class: "inside" }, h("h3", {}, "Nodes"), this.table, h("h3", {}, "Methods"), this.methods);
    this.element = h("details", { class: "card", "data-name": service.name, toggle: () => this.fill() },
      h("summary", {}, this.title), inside);
  }

  get nodes() {
    return this.service.versions.flatMap(({ version, nodes }) => nodes.map((node) => ({ version, ...node })));
  }

  update(service) {
    this.service = service;
    const serving = this.nodes.filter((node) => node.state === "serving" && node.weight > 0).length;
    const all = this.nodes.length;
    const versions = service.versions.map(({ version }) => version).join(", ");
    this.title.replaceChildren(
      h("span", { class: "name" }, service.name),
      h("span", { class: "quiet" }, versions),
      h("span", { class: `push quiet ${serving === 0 ? "bad" : ""}` },
        serving === all ? many(all, "node") : `${serving} of ${all} nodes serve`),
      h("span", { class: "quiet whole" }, service.methods.map((method) => method.name).join(", ")));
    this.fill();
  }

  /** Shows the methods there are now; of those of the same name something else may have changed. */
  serve(methods) {
    this.isDescribed = false;
    this.update({ ...this.service, methods });
  }

  fill() {
    if (!this.element.open) return;
    this.table.replaceChildren(nodesTable(this.nodes));
    if (this.isDescribed) return;
    this.isDescribed = true;
    this.describe().catch((error) => this.fail(error.message));
  }

  /** Says why the methods are not there; they are asked for again with the next change, or when it is opened. */
  fail(message) {
    this.isDescribed = false;
    this.methods.replaceChildren(h("p", { class: "bad" }, message));
  }

  async describe() {
    const asked = ++this.asked;
    const answer = await ask(`describe?service=${encodeURIComponent(this.service.name)}`);
    const described = await answer.json();
    // What was asked later is newer, and may be there already.
    if (asked !== this.asked) return;
    if (!answer.ok) return this.fail(described.message);
    const latest = new Map();
    for (const version of described) {
      for (const contract of version.contracts) {
        for (const method of contract.methods) latest.set(`${contract.name}/${method.name}`, method);
      }
    }
    const forms = new Map();
    for (const method of latest.values()) {
      const key = JSON.stringify(method);
      forms.set(key, this.forms.get(key) ?? methodForm(this.service.name, method));
    }
    this.forms = forms;
    this.methods.replaceChildren(...forms.values());
  }
}

function nodesTable(nodes) {
  const isUsual = nodes.every((node) => node.weight === 100);
  const row = (node) => h("tr", {},
    h("td", { class: "id" }, node.id),
    h("td", {}, h("code", {}, node.address)),
    h("td", {}, node.version),
    h("td", { class: node.state === "serving" ? "good" : "bad" }, node.state.replace("_", " ")),
    isUsual ? null : h("td", {}, `weight ${node.weight}`),
    h("td", {}, node.zone ?? ""));
  const heads = ["Node", "Address", "Version", "State", isUsual ? null : "Weight", "Zone"].filter(Boolean);
  const table = h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", {}, head)))),
    h("tbody", {}, nodes.slice(0, MAX_NODES).map(row)));
  if (nodes.length <= MAX_NODES) return table;
  return h("div", {}, table, h("p", { class: "quiet" }, `and ${nodes.length - MAX_NODES} more`));
}

/** A method, with a form made from its schema, or else a place for JSON. */
function methodForm(service, method) {
  const contract = method.contract ?? "";
  const path = `${encodeURIComponent(service)}/${encodeURIComponent(contract)}/${encodeURIComponent(method.name)}`;
  const inputs = new Inputs(method.request);
  const said = h("div", { "aria-live": "polite" });
  const button = h("button", {}, "Call");
  const asJson = h("button", { type: "button", class: "plain", click: () => inputs.toggle(asJson) }, "as JSON");
  asJson.hidden = !inputs.hasFields;
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    said.replaceChildren(...await call(path, inputs));
    button.disabled = false;
  };
  const form = h("form", { submit }, inputs.element, h("div", { class: "actions" }, button, asJson), said);
  const returns = method.response ? h("p", { class: "quiet" }, "Returns ", h("code", {}, words(method.response))) : null;
  const fails = method.error ? h("p", { class: "quiet" }, "Fails with ", h("code", {}, words(method.error))) : null;
  return h("details", { class: "method", "data-method": method.name },
    h("summary", {}, h("span", { class: "row" },
      h("span", { class: "name" }, method.name),
      h("span", { class: "quiet" }, signature(method)),
      method.idempotent ? h("span", { class: "quiet push" }, "idempotent") : null)),
    h("div", { class: "inside" }, method.doc ? h("p", { class: "doc" }, method.doc) : null, returns, fails, form));
}

function signature(method) {
  const properties = method.request?.properties;
  return properties ? `(${Object.keys(properties).join(", ")})` : "";
}

/** Makes a call, and says what came of it. */
async function call(path, inputs) {
  let body;
  try {
    body = inputs.read();
  } catch (error) {
    return [h("p", { class: "bad" }, error.message)];
  }
  const begin = performance.now();
  try {
    const answer = await ask(path, { method: "POST", body });
    const text = await answer.text();
    const took = `${(performance.now() - begin).toFixed(1)} ms`;
    const node = answer.headers.get("micro-node");
    const attempts = answer.headers.get("micro-attempts");
    const parts = [answer.status, took, node && `node ${node}`, attempts && `${attempts} attempts`];
    return [
      h("p", { class: answer.ok ? "good" : "bad" }, parts.filter(Boolean).join(" · ")),
      h("pre", { class: "answer" }, pretty(text)),
      h("details", {}, h("summary", { class: "quiet" }, "curl"), h("pre", {}, curl(path, body))),
    ];
  } catch (error) {
    return [h("p", { class: "bad" }, `The gateway did not answer: ${error.message}`)];
  }
}

function curl(path, body) {
  const quoted = body.replaceAll("'", String.raw`'\''`);
  // The token itself is not for everybody who sees the screen.
  const token = sessionStorage.getItem("token") ? '-H "authorization: Bearer $TOKEN" ' : "";
  return `curl ${token}-d '${quoted}' ${new URL(path, location.href)}`;
}

/** What is filled in: a field for each argument, and the same as JSON. */
class Inputs {
  constructor(schema) {
    const properties = Object.entries(schema?.properties ?? {});
    this.isKnown = schema?.type === "object" && schema.properties !== undefined;
    this.hasFields = properties.length > 0;
    const required = new Set(schema?.required ?? []);
    const isOptional = ([name]) => Number(!required.has(name));
    properties.sort((a, b) => isOptional(a) - isOptional(b));
    this.fields = properties.map(([name, inner]) => new Field(name, inner, required.has(name)));
    this.json = h("textarea", { rows: 5, spellcheck: "false", "aria-label": "Arguments as JSON" });
    this.json.value = this.isKnown ? "{}" : JSON.stringify(example(schema), null, 2);
    this.form = h("div", { class: "fields" }, this.fields.map((field) => field.elements));
    this.isJson = !this.isKnown;
    this.element = h("div", {}, this.form, this.json);
    this.arrange();
  }

  toggle(button) {
    if (!this.isJson) {
      try { this.json.value = pretty(this.read()); } catch { /* what is there stays */ }
    }
    this.isJson = !this.isJson;
    button.textContent = this.isJson ? "as fields" : "as JSON";
    this.arrange();
  }

  arrange() {
    this.form.hidden = this.isJson;
    this.json.hidden = !this.isJson;
  }

  /** The arguments as JSON, in text, so that long numbers keep their digits. */
  read() {
    if (this.isJson) {
      JSON.parse(this.json.value);
      return this.json.value;
    }
    const parts = this.fields.map((field) => [field.name, field.read()]).filter(([, text]) => text !== undefined);
    return `{${parts.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`;
  }
}

/** One argument. */
class Field {
  constructor(name, schema, isRequired) {
    [this.schema, this.isNullable] = nullable(schema);
    this.name = name;
    this.isRequired = isRequired && !this.isNullable;
    this.input = this.make();
    this.input.name = name;
    const hint = words(schema) + (this.isRequired ? "" : ", may be left out");
    this.elements = [
      h("label", {}, name, h("span", { class: "hint" }, hint)),
      this.input,
    ];
    this.elements[0].htmlFor = this.input.id = `field-${Field.next++}`;
  }

  make() {
    const { schema } = this;
    const none = this.isRequired ? [] : [h("option", { value: "" }, "")];
    const options = (values) => h("select", {}, none, values.map((value) => h("option", { value: JSON.stringify(value) }, String(value))));
    if (schema.enum) return options(schema.enum);
    if (schema.type === "boolean") return options([false, true]);
    if (schema.type === "integer") return h("input", { inputmode: "numeric", pattern: "-?[0-9]+", required: this.isRequired });
    if (schema.type === "number") return h("input", { inputmode: "decimal", pattern: "-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?", required: this.isRequired });
    if (schema.type === "string") return h("input", { autocomplete: "off" });
    const text = this.isRequired ? JSON.stringify(example(schema), null, 2) : "";
    const area = h("textarea", { rows: Math.min(Math.max(text.split("\n").length, 2), 12), spellcheck: "false" });
    area.value = text;
    return area;
  }

  /** The value as JSON; nothing for one that is left out. */
  read() {
    const text = this.input.value;
    if (text === "" && !this.isRequired) return undefined;
    if (this.input.tagName === "SELECT") return text;
    if (this.schema.type === "string") return JSON.stringify(text);
    if (this.schema.type === "integer" || this.schema.type === "number") return text.trim();
    try {
      JSON.parse(text);
    } catch (error) {
      throw new Error(`${this.name} is not JSON: ${error.message}`);
    }
    return text;
  }
}
Field.next = 0;

/** Notes down what happened. */
function note({ what, service, node, reason }) {
  const time = new Date().toLocaleTimeString([], { hour12: false });
  const mark = { joined: "+", changed: "~", left: "-" }[what];
  $("events").prepend(h("li", {},
    h("time", {}, time), h("span", { class: what }, `${mark} ${what} `),
    `${service} / ${node}`, reason ? h("span", { class: "quiet" }, ` ${reason}`) : null));
  while ($("events").children.length > MAX_EVENTS) $("events").lastChild.remove();
}

function hear(name, data) {
  if (name === "services") return showAll(data);
  if (name === "methods") return cards.get(data.service)?.serve(data.methods);
  note(data);
  place(data.service, data.node, data.now);
  count();
}

/** Reads events as they come. An `EventSource` would not send the token. */
async function listen() {
  const answer = await ask("events");
  if (!answer.ok) throw Object.assign(new Error((await answer.json()).message), { status: answer.status });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the gateway went away");
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const lines = event.split("\n");
      const of = (key) => lines.find((line) => line.startsWith(key))?.slice(key.length);
      const [name, data] = [of("event: "), of("data: ")];
      if (name && data) hear(name, JSON.parse(data));
    }
  }
}

let isFollowing = false;

/** Listens, and again when that ends, until a token is needed; once, however often it is called. */
async function follow() {
  if (isFollowing) return;
  isFollowing = true;
  for (let wait = 500; ; wait = Math.min(wait * 2, 10_000)) {
    const begin = Date.now();
    try {
      await listen();
    } catch (error) {
      status(error.message, "bad");
      if (error.status === 401) {
        isFollowing = false;
        return;
      }
    }
    if (Date.now() - begin > 10_000) wait = 500;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

onLinks();
onLogin(follow);
follow();
