// What the pages have in common: elements, requests, and what a schema says.

/** An element with attributes (functions are listeners) and children; texts are never markup. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Says how it stands: `good`, `bad` or nothing in particular. */
export function status(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

/** So many of a thing. */
export const many = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;

/** A request with the token, if one was entered; who is asked for one gets the form for it. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem("token");
  if (token) headers.set("authorization", `Bearer ${token}`);
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401 && answer.headers.has("www-authenticate")) $("login").hidden = false;
  return answer;
}

/** Begins anew once a token is entered. It is kept as long as the tab is open. */
export function onLogin(begin) {
  $("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", $("token").value);
    $("login").hidden = true;
    begin();
  });
}

/** Follows links of the head with the token, which a browser by itself sends with none. */
export function onLinks() {
  document.querySelector("nav").addEventListener("click", (event) => {
    // Whoever wants another tab or window gets it, as of any link.
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest("a[data-ask]");
    if (!link || (!sessionStorage.getItem("token") && $("login").hidden)) return;
    event.preventDefault();
    open(link.getAttribute("href")).catch((error) => status(error.message, "bad"));
  });
}

async function open(path) {
  const answer = await ask(path);
  const text = await answer.text();
  if (!answer.ok) throw new Error(JSON.parse(text).message);
  // A type that browsers show: figures under their own would be saved as a file.
  const type = path === "metrics" ? "text/plain;charset=utf-8" : "application/json";
  location.assign(URL.createObjectURL(new Blob([text], { type })));
}

/** Hides what the filter does not find: elements with the texts to look through. */
export function onSearch(entries) {
  const apply = () => {
    const wanted = $("search").value.trim().toLowerCase();
    for (const [element, text] of entries()) element.hidden = !text.toLowerCase().includes(wanted);
  };
  $("search").addEventListener("input", apply);
  return apply;
}

/** The schema without `null`, and whether that is allowed. */
export function nullable(schema = {}) {
  const choices = schema.anyOf ?? schema.oneOf;
  const isNull = (choice) => choice.type === "null";
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const types = schema.type.filter((type) => type !== "null");
    return [{ ...schema, type: types.length === 1 ? types[0] : types }, true];
  }
  if (choices?.some(isNull)) {
    const rest = choices.filter((choice) => !isNull(choice));
    return [rest.length === 1 ? rest[0] : { anyOf: rest }, true];
  }
  return [schema, false];
}

/** A type in a few words. */
export function words(schema) {
  const [inner, isNullable] = nullable(schema);
  const text = plainWords(inner);
  return isNullable ? `${text} or null` : text;
}

function plainWords(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(words).join(" or ");
  switch (schema.type) {
    case "array": return Array.isArray(schema.prefixItems)
      ? `[${schema.prefixItems.map(words).join(", ")}]`
      : `list of ${words(schema.items ?? {})}`;
    case "object": return schema.properties ? fields(schema) : mapWords(schema);
    case "null": return "nothing";
    case undefined: return "any";
    default: return schema.format ? `${schema.type} (${schema.format})` : String(schema.type);
  }
}

function mapWords(schema) {
  const values = schema.additionalProperties;
  return values && typeof values === "object" ? `map to ${words(values)}` : "map";
}

function fields(schema) {
  const all = Object.entries(schema.properties);
  return `{ ${all.map(([name, inner]) => `${name}: ${words(inner)}`).join(", ")} }`;
}

/** A value to begin with. */
export function example(schema = {}) {
  const [inner, isNullable] = nullable(schema);
  if (isNullable) return null;
  if (inner.const !== undefined) return inner.const;
  if (inner.enum) return inner.enum[0];
  const choices = inner.anyOf ?? inner.oneOf;
  if (choices) return example(choices[0]);
  switch (inner.type) {
    case "string": return "";
    case "integer": case "number": return 0;
    case "boolean": return false;
    case "array": return (inner.prefixItems ?? []).map(example);
    case "object": return Object.fromEntries(
      Object.entries(inner.properties ?? {}).map(([name, value]) => [name, example(value)]));
    default: return {};
  }
}

/** JSON with line breaks; numbers that would lose digits leave it as it is. */
export function pretty(text) {
  try {
    return /\d{16}/.test(text) ? text : JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
