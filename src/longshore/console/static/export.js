// The page "New export": a body for POST /tasks, its preview, and the same request from elsewhere.
// Its rules, and the names that both parts use, are in `export_rules.js`.
"use strict";

const segmentBody = () => ({ entity: "people", index: by("index").value, join: by("join").value, chain_id: known.chain, rules: rules.map(ruleBody) });

// What an index has of a key of the repeated export: its columns or folders, or its rules.
function ofLike(key, index) {
  if (!like || !indexesOf(like.target).includes(index)) return undefined;
  const value = (key === "segment" ? like.trigger : like.target)[key];
  return like.target.export_indexes && value && !Array.isArray(value) ? value[index] : value;
}

const indexesOf = (target) => target.export_indexes || [target.export_index];

const nameOf = (field) => (typeof field === "string" ? field : field.name);

// A key that is of one index. Of several, the form shows that of the first, and the others keep theirs.
function setOfIndex(place, key, value) {
  const index = by("index").value, more = others();
  const kept = more.map((name) => [name, ofLike(key, name)]).filter(([, each]) => each);
  if (!more.length && value) place[key] = value;
  if (more.length && (value || kept.length)) place[key] = { ...(value && { [index]: value }), ...Object.fromEntries(kept) };
}

function keptTarget() {
  if (!like) return {};
  const same = JSON.stringify(indexesOf(like.target)) === JSON.stringify([by("index").value, ...others()]);
  const keys = ["priority", "timeout_seconds", "result_days", ...(same ? ["schema"] : [])];
  return Object.fromEntries(keys.filter((key) => key in like.target).map((key) => [key, like.target[key]]));
}

function csvOptions() {
  const { profile, ...kept } = like?.target.csv || {};
  return { ...kept, ...(by("profile").value !== "rfc4180" && { profile: by("profile").value }) };
}

function chosenFields() {
  const boxes = [...by("fields").querySelectorAll("input")];
  const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
  const before = ofLike("fields", by("index").value);
  if (!before) return chosen.length === boxes.length ? undefined : chosen;
  return [...before.filter((field) => chosen.includes(nameOf(field))), ...chosen.filter((name) => !before.map(nameOf).includes(name))];
}

function moment() {
  const at = by("at").value.trim().replace(" ", "T");
  return Number.isNaN(Date.parse(at)) ? at : new Date(at).toISOString().replace(".000Z", "Z");
}

const others = () => [...by("more").querySelectorAll("input:checked")].map((box) => box.value).filter((name) => name !== by("index").value);

function partition() {
  const keys = by("partition").value.split(",").map((each) => each.trim()).filter(Boolean);
  return keys.map((each) => { const [field, unit] = each.split(":"); return unit ? { field, by: unit } : { field }; });
}

const shareable = () => by("format").value === "parquet";

const takes = () => by("deliver").selectedOptions[0].dataset.takes;

function delivery() {
  const entry = { destination: by("deliver").value };
  if (takes() === "tables") return { ...entry, table: by("table").value, mode: by("mode").value };
  return { ...entry, ...(by("path").value && { path: by("path").value }), ...(by("overwrite").checked && { overwrite: true }) };
}

function body() {
  const index = by("index").value, more = others();
  const target = { action: "export", ...(more.length ? { export_indexes: [index, ...more] } : { export_index: index }), export_format: by("format").value, ...keptTarget() };
  setOfIndex(target, "fields", chosenFields());
  if (by("compression").value) target.compression = by("compression").value;
  if (by("format").value === "csv" && Object.keys(csvOptions()).length) target.csv = csvOptions();
  const incremental = by("incremental").value;
  if (incremental) target.incremental = incremental === "true" ? true : incremental;
  if (incremental && by("deletes").checked) target.deletes = true;
  if (by("split").value) target.split = { [by("unit").value]: typed(by("split").value, "number") };
  setOfIndex(target, "partition_by", partition().length ? partition() : undefined);
  if (shareable() && by("share").value) target.share_as = by("share").value;
  if (by("deliver").value) target.deliver = [delivery(), ...(like?.target.deliver || []).slice(1)];
  const trigger = {};
  const before = like?.trigger || {};
  if (repeats()) for (const key of ["until", "catch_up"]) if (key in before) trigger[key] = before[key];
  const when = by("when").value;
  if (when === "cron") trigger.cron = by("cron").value;
  else trigger.once = when === "at" ? moment() : new Date().toISOString().replace(/\.\d+Z/, "Z");
  if (when !== "cron" && by("repeat").value) trigger.repeat = by("repeat").value;
  if (repeats() || before.timezone) trigger.timezone = by("zone").value || "UTC"; // also that of date rules
  if (by("stored").value) trigger.segment_id = by("stored").value;
  else setOfIndex(trigger, "segment", rules.length ? segmentBody() : undefined);
  return { chain: known.chain, desc: by("desc").value, target, trigger };
}

// --- The same from elsewhere.

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function python(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null || value === undefined) return "None";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${python(each)}`).join(", ")}}`;
  return encode(value);
}

function elsewhere(task) {
  const { target, trigger } = task;
  by("curl").textContent = `curl ${location.origin}/tasks \\\n  -H "Authorization: Bearer $TOKEN" \\\n  -H "Content-Type: application/json" \\\n  -d ${quoted(encode(task))}`;
  const named = [["format", target.export_format]];
  if (trigger.segment_id) named.push(["where", trigger.segment_id]);
  if (trigger.segment) named.push(["where", trigger.segment]);
  for (const key of ["fields", "compression", "csv", "incremental", "deletes", "split", "partition_by", "share_as", "deliver", "schema"]) if (target[key]) named.push([key, target[key]]);
  if (by("when").value === "at" && trigger.once) named.push(["at", trigger.once]);
  if (trigger.repeat) named.push(["repeat", trigger.repeat]);
  for (const key of ["cron", "timezone", "catch_up", "until"]) if (trigger[key]) named.push([key, trigger[key]]);
  if (task.desc) named.push(["desc", task.desc]);
  const shown = named.map(([key, value]) => (["at", "until"].includes(key) ? `    ${key}=datetime.fromisoformat(${python(value)}),` : `    ${key}=${python(value)},`));
  const apiOnly = ["priority", "timeout_seconds", "result_days"].filter((key) => key in target);
  const imports = (named.some(([key]) => ["at", "until"].includes(key)) ? "from datetime import datetime\n" : "") + "from longshore import Longshore\n\n";
  by("python").textContent = `${imports}client = Longshore(${python(location.origin)}, token, chain=${known.chain})\ntask = client.exports.create(\n    ${python(target.export_indexes || target.export_index)},\n${shown.join("\n")}\n)\ntask.wait()\ntask.download()`
    + (apiOnly.length ? `\n# not by the client: ${apiOnly.join("; ")}` : "");
  const words = ["longshore export", ...(target.export_indexes || [target.export_index]), "--format", target.export_format];
  if (trigger.segment_id) words.push("--segment", trigger.segment_id);
  if (Array.isArray(target.fields)) for (const field of target.fields) words.push("--field", field);
  if (Array.isArray(target.partition_by)) for (const key of target.partition_by) words.push("--partition-by", key.by ? `${key.field}:${key.by}` : key.field);
  for (const unit of ["rows", "bytes"]) if (target.split?.[unit]) words.push(`--split-${unit}`, target.split[unit]);
  if (target.deletes && target.incremental === true) words.push("--deletes");
  if (target.compression) words.push("--compression", target.compression);
  if (target.share_as) words.push("--share-as", target.share_as);
  for (const entry of target.deliver || []) if (Object.keys(entry).length === 1) words.push("--deliver", entry.destination);
  if (by("when").value === "at" && trigger.once) words.push("--at", trigger.once);
  if (task.desc) words.push("--desc", quoted(task.desc));
  const beyond = [...apiOnly, ...(target.schema ? ["schema"] : [])];
  if (trigger.segment) beyond.push("rules: store them and name the segment");
  if (trigger.repeat || trigger.cron) beyond.push("repeating");
  if (target.csv) beyond.push("csv");
  if (target.incremental && !(target.deletes && target.incremental === true)) beyond.push("incremental");
  for (const key of ["fields", "partition_by"]) if (target[key] && !Array.isArray(target[key])) beyond.push(`${key} of one of several indexes`);
  if (target.deliver && !words.includes("--deliver")) beyond.push("path or table of a delivery");
  by("cli").textContent = words.join(" ") + (beyond.length ? `\n# not by the command line: ${beyond.join("; ")}` : "");
}

// --- The preview: asked for once the rules have rested a moment.

let resting, asking = 0;

function repeats() {
  return by("when").value === "cron" || by("repeat").value !== "";
}

async function previewBody() {
  const segment = by("stored").value ? (await ask("GET", `/segments/${by("stored").value}`)).segment : segmentBody();
  const fields = chosenFields();
  const body = { segment, ...(fields && { fields }), ...((repeats() || like?.trigger.timezone) && { timezone: by("zone").value || "UTC" }) };
  if (by("incremental").value) Object.assign(body, { incremental: true, ...(by("deletes").checked && { deletes: true }) });
  return body;
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

function inBytes(size) {
  const power = Math.min(UNITS.length - 1, size < 1000 ? 0 : Math.floor(Math.log10(size) / 3));
  return `${(size / 1000 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}

function inSeconds(seconds) {
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function sayForecast(found) {
  const about = found.rows_are === "exact" ? "" : "about ";
  const parts = [`${about}${found.rows.toLocaleString("en")} rows`];
  if (found.bytes !== null) parts.push(`${inBytes(found.bytes)} as CSV`);
  if (found.seconds !== null) parts.push(`about ${inSeconds(found.seconds)}`);
  by("count").textContent = parts.join(", ");
  by("warnings").replaceChildren(...found.warnings.map((each) => make("li", { textContent: each.detail })));
}

// Without rows, which have an entry in the audit log; those are shown once they are asked for.
async function preview(path = `/console/${known.chain}/forecast`) {
  const mine = ++asking;
  try {
    const found = await ask("POST", path, await previewBody());
    if (mine !== asking) return;
    sayForecast(found);
    drawSample(found.sample);
  } catch (problem) {
    if (mine !== asking) return;
    by("count").textContent = faultsOf(problem).join("; ");
    by("warnings").replaceChildren();
    drawSample([]);
  }
}

function drawSample(rows) {
  if (!rows.length) { by("sample").replaceChildren(); return; }
  const names = Object.keys(rows[0]);
  const text = (value) => (value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
  by("sample").replaceChildren(make("table", {},
    make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col", textContent: name })))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...names.map((name) => make("td", { textContent: text(row[name]) })))))));
}

function changed() {
  const when = by("when").value;
  by("at-line").hidden = when !== "at";
  by("cron-line").hidden = when !== "cron";
  by("repeat-line").hidden = when === "cron";
  by("zone-line").hidden = !repeats() && !like?.trigger.timezone;
  by("profile-line").hidden = by("format").value !== "csv";
  by("builder").hidden = Boolean(by("stored").value);
  for (const id of ["path-line", "overwrite-line"]) by(id).hidden = takes() !== "files";
  for (const id of ["table-line", "mode-line"]) by(id).hidden = takes() !== "tables";
  by("share-line").hidden = !shareable();
  by("deletes-line").hidden = !by("incremental").value;
  for (const box of by("more").querySelectorAll("input")) box.closest("li").hidden = box.value === by("index").value;
  by("compression").disabled = by("format").value === "parquet" || by("format").value === "xlsx";
  if (by("compression").disabled) by("compression").value = "";
  elsewhere(body());
  clearTimeout(resting);
  resting = setTimeout(preview, 350);
}

// --- What begins, and what ends it.

function indexChanged(fields) {
  rules.length = 0;
  drawFields(fields);
  options(by("keys"), fieldsNow().flatMap((field) => field.type === "date" ? ["day", "month", "year"].map((unit) => `${field.name}:${unit}`) : field.type === "keyword" ? [field.name] : []));
  drawRules();
  changed();
}

by("index").addEventListener("change", () => { by("stored").value = ""; indexChanged(); });
by("stored").addEventListener("change", async () => {
  if (by("stored").value) {
    const { segment } = await ask("GET", `/segments/${by("stored").value}`);
    if (segment.index !== by("index").value) { by("index").value = segment.index; drawFields(); }
  }
  changed();
});
by("add-rule").addEventListener("click", () => {
  const first = targets().find((each) => each.name === known.indexes[by("index").value].time) || targets()[0];
  rules.push({ name: first.name, path: first.path, ...startOf(first.type) });
  drawRules();
  by("rules").lastElementChild.querySelector("select").focus();
  changed();
});
for (const [id, checked] of [["all-fields", true], ["no-fields", false]]) {
  by(id).addEventListener("click", () => {
    for (const box of by("fields").querySelectorAll("li:not([hidden]) input")) box.checked = checked;
    changed();
  });
}
by("find-field").addEventListener("input", (event) => {
  event.stopPropagation();
  const text = by("find-field").value.trim().toLowerCase();
  for (const item of by("fields").children) item.hidden = !item.textContent.toLowerCase().includes(text);
});
by("show-sample").addEventListener("click", () => {
  clearTimeout(resting); // its forecast would clear the rows
  preview("/segments/preview");
});
by("store").addEventListener("click", async () => {
  const name = prompt("A name for the segment");
  if (!name) return;
  try {
    const stored = await ask("POST", "/segments", { chain: known.chain, name, segment: segmentBody() });
    by("stored").append(make("option", { value: stored.id, textContent: stored.name, selected: true }));
    by("faults").replaceChildren();
    changed();
  } catch (problem) { show(faultsOf(problem), by("faults")); }
});
by("export").addEventListener("input", (event) => { if (!event.target.closest("#rules")) changed(); });
by("export").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = by("export").querySelector("button[type=submit]");
  button.disabled = true;
  try {
    const task = await ask("POST", "/tasks", body(), { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) });
    location.assign(`/console/${known.chain}/tasks/${task.id}`);
  } catch (problem) {
    show(faultsOf(problem), by("faults"));
    button.disabled = false;
  }
});

// The form has its values from the service, but for rules, which lines of the page show.
function begin() {
  const segment = ofLike("segment", by("index").value);
  by("stored").querySelector("option[value=from]")?.remove();
  indexChanged([...by("fields").querySelectorAll("input:checked")].map((box) => box.value));
  if (!segment) return;
  by("join").value = segment.join;
  const text = (value) => String(value).replace(EXACT, "");
  for (const rule of segment.rules) {
    const { field_name, field_type, operator, nested, nesting_path, ...operands } = rule;
    const texts = Object.entries(operands).map(([key, value]) => [key, Array.isArray(value) ? joined(value.map(text)) : text(value)]);
    const path = nested ? nesting_path : "";
    rules.push({ name: path ? field_name.replace(`${path}.`, "") : field_name, path, operator, operands: Object.fromEntries(texts) });
  }
  drawRules();
  changed();
}

// What needs this script is hidden without it. console.js has `ask`, and comes first.
by("side").hidden = false;
by("at-label").textContent = "Time, in your zone";
begin();
