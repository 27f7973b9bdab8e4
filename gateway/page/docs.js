// What can be called now, by the OpenAPI document.

import { $, ask, h, many, onLinks, onLogin, onSearch, status, words } from "./common.js";

let shown = [];
onSearch(() => shown);

async function load() {
  const answer = await ask("openapi.json");
  if (!answer.ok) return status((await answer.json()).message, "bad");
  const document = await answer.json();
  const docs = new Map(document.tags.map((tag) => [tag.name, tag.description]));
  const services = Map.groupBy(Object.entries(document.paths), ([, operations]) => operations.post.tags[0]);
  shown = [...services].map(([name, paths]) => [section(name, docs.get(name), paths), name + paths.map(([path]) => path)]);
  $("operations").replaceChildren(general(document), ...shown.map(([element]) => element));
  status(`${many(services.size, "service")}, ${many(Object.keys(document.paths).length, "method")}`, "good");
}

/** What holds for every call. */
function general(document) {
  const { parameters, responses } = document.components;
  const rows = Object.values(parameters).map((header) => [header.name, words(header.schema), header.description]);
  return h("details", { class: "card" },
    h("summary", {}, h("span", { class: "name" }, "How to call")),
    h("div", { class: "inside" },
      h("p", { class: "doc" }, document.info.description),
      h("h3", {}, "Headers"), table(["Header", "Type", "Meaning"], rows),
      h("h3", {}, "Errors"), h("p", { class: "doc" }, responses.Error.description),
      h("pre", {}, '{ "code": "not_found", "message": "…", "details": … }')));
}

function section(name, doc, paths) {
  return h("details", { class: "card", open: true },
    h("summary", {}, h("span", { class: "name" }, name)),
    h("div", { class: "inside" }, doc ? h("p", { class: "doc" }, doc) : null, paths.map(([path, operations]) => method(path, operations))));
}

function method(path, operations) {
  const { post, get } = operations;
  const request = post.requestBody.content["application/json"].schema;
  const answer = post.responses["200"].content["application/json"].schema;
  const failure = post.responses.default.content?.["application/json"].schema.allOf?.[1].properties.details;
  const required = new Set(request.required ?? []);
  const rows = Object.entries(request.properties ?? {})
    .map(([field, schema]) => [field, words(schema), required.has(field) ? "" : "may be left out"]);
  return h("details", { class: "method" },
    h("summary", {}, h("span", { class: "verb" }, get ? "POST GET" : "POST"), h("code", { class: "name" }, path)),
    h("div", { class: "inside" },
      post.description ? h("p", { class: "doc" }, post.description) : null,
      rows.length ? table(["Argument", "Type", ""], rows) : h("p", { class: "quiet" }, request.properties ? "No arguments." : "Arguments of which nothing is known."),
      h("p", {}, "Returns ", h("code", {}, words(answer))),
      failure ? h("p", {}, "Fails with ", h("code", {}, words(failure))) : null));
}

function table(heads, rows) {
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", {}, head)))),
    h("tbody", {}, rows.map(([name, type, more]) => h("tr", {},
      h("td", {}, h("code", {}, name)), h("td", {}, type), h("td", { class: "quiet" }, more))))));
}

const begin = () => load().catch((error) => status(error.message, "bad"));
onLinks();
onLogin(begin);
begin();
