"use strict";
const served = JSON.parse(document.getElementById("served").textContent);
const at = (id) => document.getElementById(id);
const MOST_ROWS = 60, MOST_COLUMNS = 12; // of a table of numbers; the whole answer stands below it
let last = null; // the last prediction and the body that asked for it, to draw another node of it

function options(select, values, chosen) {
  for (const [value, text] of values) select.add(new Option(text, value, false, value === chosen));
}

function path(verb) {
  const [model, version] = JSON.parse(at("model").value);
  if (model === served.model && version === served.version) return verb;
  return `models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}/${verb}`;
}

const TYPES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", csv: "text/csv", json: "application/json",
  parquet: "application/vnd.apache.parquet" };

async function ask(verb) {
  const file = at("file").files[0];
  const headers = { "Content-Type": "application/json" };
  if (file) headers["Content-Type"] = TYPES[file.name.split(".").pop().toLowerCase()] || file.type || "application/octet-stream";
  const key = at("key").value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  const started = performance.now();
  const response = await fetch(path(verb), { method: "POST", headers, body: file || at("body").value });
  const content = await response.blob();
  const about = [`HTTP ${response.status}`, `${(performance.now() - started).toFixed(1)} ms`];
  for (const [header, name] of [["X-Prediction-Id", "prediction"], ["X-Model-Digest", "parcel"]]) {
    const value = response.headers.get(header);
    if (value) about.push(`${name} ${header === "X-Model-Digest" ? value.slice(0, 12) : value}`);
  }
  at("said").textContent = about.join(" · ");
  if (!response.ok) throw JSON.parse(await content.text()).error;
  return content;
}

async function show(work) {
  for (const id of ["predict", "explain"]) at(id).disabled = true;
  at("answer").hidden = false;
  at("error").hidden = true;
  try {
    at("raw").textContent = await work();
  } catch (error) {
    const text = error.what ? `${error.what} (${error.where}): expected ${error.expected}, got ${error.got}` : `no answer: ${error.message || error}`;
    at("error").textContent = text;
    at("error").hidden = false;
    at("chart").replaceChildren();
    at("raw").textContent = "";
    last = null;
  }
  at("more").hidden = !at("raw").textContent;
  for (const id of ["predict", "explain"]) at(id).disabled = false;
}

async function predict() {
  const text = await (await ask("predict")).text();
  last = { answer: JSON.parse(text), request: at("file").files[0] ? null : JSON.parse(at("body").value) };
  draw();
  return JSON.stringify(last.answer, null, 1);
}

async function explain() {
  const query = new URLSearchParams({ format: "png" });
  if (served.task === "forecast") {
    query.set("node", at("target").value);
    query.set("step", at("horizon").value);
  } else if (at("target").value) query.set(served.task === "classify" ? "class" : "output", at("target").value);
  const image = document.createElement("img");
  image.src = URL.createObjectURL(await ask(`explain?${query}`));
  image.alt = "Picture: which inputs raised (red) or lowered (blue) this answer";
  await image.decode();
  URL.revokeObjectURL(image.src);
  at("chart").replaceChildren(image);
  last = null;
  return "";
}

function draw() {
  if (!last) return;
  const { predictions } = last.answer;
  if (!["forecast", "classify"].includes(served.task)) {
    at("chart").replaceChildren(...tensors());
    return;
  }
  const first = served.task === "forecast" ? (Array.isArray(predictions[0][0]) ? predictions[0] : predictions)
    : Array.isArray(predictions) ? predictions[0] : predictions;
  at("chart").replaceChildren(...(served.task === "forecast" ? forecast(first) : classes(first)));
}

function past(node) {
  // Past values of this node, where the text that was sent has them; null where missing.
  let data = last.request && last.request.data;
  if (Array.isArray(data) && data[0] && data[0].values) data = data[0];
  const rows = data && data.values ? data.values : data;
  if (!Array.isArray(rows) || !Array.isArray(rows[0])) return [];
  const names = (data && data.nodes) || last.request.nodes || served.nodes;
  return rows.map((row) => [row[names.indexOf(node)]].flat()[0] ?? null);
}

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function forecast(rows) {
  const node = at("target").value, column = last.answer.nodes.indexOf(node);
  const seen = past(node).map((value, i, all) => [(i + 1 - all.length) * served.cadence_min, value]).filter(([, value]) => value !== null);
  const ahead = rows.map((row, step) => [last.answer.horizon_min[step], row[column]]);
  const all = [...seen, ...ahead].map(([, value]) => value);
  const low = Math.min(...all), span = Math.max(...all) - low || 1, from = Math.min(0, ...seen.map(([minute]) => minute)), to = ahead.at(-1)[0];
  const x = (minute) => 52 + (minute - from) / (to - from) * 690, y = (value) => 24 + (1 - (value - low) / span) * 200;
  const svg = element("svg", { viewBox: "0 0 760 270", role: "img" });
  svg.append(element("title", {}, `Forecast of ${node}`));
  for (const share of [0, 0.5, 1]) {
    const value = low + share * span;
    svg.append(element("line", { class: "axis", x1: 52, x2: 742, y1: y(value), y2: y(value) }),
      element("text", { x: 46, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(3)));
  }
  svg.append(element("line", { class: "axis", x1: x(0), x2: x(0), y1: 18, y2: 230 }));
  for (const minute of [from, 0, to]) svg.append(element("text", { x: x(minute), y: 248, "text-anchor": minute === to ? "end" : minute === from && from < 0 ? "start" : "middle" }, minute ? `${minute > 0 ? "+" : ""}${minute} min` : "now"));
  const line = (kind, points) => element("polyline", { class: kind, points: points.map(([minute, value]) => `${x(minute)},${y(value)}`).join(" ") });
  svg.append(line("past", seen), line("ahead", seen.length ? [seen.at(-1), ...ahead] : ahead));
  for (const [minute, value] of ahead) svg.append(element("circle", { class: "dot", cx: x(minute), cy: y(value), r: 3 }));
  svg.append(element("text", { x: 52, y: 12 }, `${node}, ${last.answer.units}: sent (grey) and forecast (blue)`));
  return [svg, table(["", ...last.answer.horizon_min.map((minute) => `+${minute} min`)], [[node, ...ahead.map(([, value]) => value.toPrecision(5))]])];
}

function classes(result) {
  const bars = Object.entries(result.probabilities).sort((one, other) => other[1] - one[1]).map(([name, share]) => {
    const bar = document.createElement("meter");
    bar.value = share;
    return [name, bar, share.toFixed(4)];
  });
  return [table(["class", "", "probability"], bars)];
}

function tensors() {
  // One sample of an answer of numbers: a row a label, a column for each place on the axes before the last.
  let { predictions: sample, alarms = [] } = last.answer;
  let depth = 0;
  for (let part = sample; Array.isArray(part); part = part[0]) depth += 1;
  if (depth > served.num_axes) [sample, alarms] = [sample[0], alarms[0] || []]; // of a list the first
  if (sample && sample.probabilities) return classes(sample);
  const rows = Array.isArray(sample) ? (Array.isArray(sample[0]) ? sample.flat(Infinity) : sample) : [sample];
  const names = served.labels.length ? last.answer.labels : rows.map((_, place) => String(place));
  const columns = Math.max(rows.length / names.length, 1);
  const cells = names.slice(0, MOST_ROWS).map((name, row) => [name,
    ...Array.from({ length: Math.min(columns, MOST_COLUMNS) }, (_, column) => said(rows[column * names.length + row])),
    ...(last.answer.threshold === undefined ? [] : [alarms.includes(name) ? "alarm" : ""])]);
  const head = columns > 1 ? Array.from({ length: Math.min(columns, MOST_COLUMNS) }, (_, column) => String(column)) : [last.answer.units];
  return [table(["", ...head, ...(last.answer.threshold === undefined ? [] : [`over ${last.answer.threshold.toPrecision(3)}`])], cells)];
}

const said = (value) => typeof value === "number" ? value.toPrecision(5) : "";

function table(head, rows) {
  const made = document.createElement("table");
  for (const [place, row] of [["th", head], ...rows.map((each) => ["td", each])]) {
    const line = made.insertRow();
    for (const cell of row) line.appendChild(document.createElement(place)).append(cell);
  }
  return made;
}

at("about").textContent = served.about;
at("body").value = served.example ? JSON.stringify(served.example) : "";
at("file").accept = Object.entries(TYPES).filter(([, type]) => served.types.includes(type)).map(([end]) => `.${end}`).join();
const every = Object.entries(served.models).flatMap(([model, versions]) => versions.map((version) => [JSON.stringify([model, version]), `${model} ${version}`]));
options(at("model"), every, JSON.stringify([served.model, served.version]));
if (served.task === "forecast") {
  options(at("target"), served.nodes.map((node) => [node, node]));
  options(at("horizon"), served.horizon_min.map((minute, step) => [String(step + 1), `${minute} min`]), String(served.judged_step));
} else {
  const first = served.task === "classify" ? "the likeliest class" : "the likeliest or first";
  options(at("target"), [["", first], ...[...served.classes, ...served.labels].map((name) => [name, name])]);
  at("ahead").hidden = true;
}
for (const id of ["predict", "explain"]) at(id).disabled = !served.model;
at("form").addEventListener("submit", (event) => { event.preventDefault(); show(predict); });
at("explain").addEventListener("click", () => show(explain));
at("target").addEventListener("change", draw);
at("file").addEventListener("change", () => { at("clear").hidden = !at("file").files.length; at("body").disabled = at("file").files.length > 0; });
at("clear").addEventListener("click", () => { at("file").value = ""; at("file").dispatchEvent(new Event("change")); });
