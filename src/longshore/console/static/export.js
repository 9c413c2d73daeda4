// The page "New export": the lines of rules, and the inputs that depend on others. The service answers what they mean.
"use strict";

const by = (id) => document.getElementById(id);
const form = by("export");

function show(id, isShown) {
  by(id).hidden = !isShown;
  for (const input of by(id).querySelectorAll("input, select")) input.disabled = !isShown;
}

// What follows the form, here and by htmx, listens to its inputs.
const changed = () => form.dispatchEvent(new Event("input"));

// --- The chosen index: its columns, the keys of its folders, and a line for a rule of it.

function ofIndex() {
  const templates = [...document.querySelectorAll("template[data-index]")];
  return templates.find((each) => each.dataset.index === by("index").value).content.cloneNode(true);
}

function showIndex() {
  const found = ofIndex();
  by("rules").replaceChildren();
  by("fields").replaceChildren(...found.querySelector("ul").children);
  by("keys").replaceChildren(...found.querySelector("datalist").children);
  by("columns-of").value = by("index").value;
}

by("index").addEventListener("input", () => {
  by("stored").value = "";
  showIndex();
});

by("stored").addEventListener("input", () => {
  const { index } = by("stored").selectedOptions[0].dataset;
  if (!index || index === by("index").value) return;
  by("index").value = index;
  showIndex();
});

by("columns").addEventListener("click", (event) => {
  const { checks } = event.target.dataset;
  if (!checks) return;
  for (const box of by("fields").querySelectorAll("li:not([hidden]) input")) box.checked = checks === "all";
  changed();
});

by("find-field").addEventListener("input", (event) => {
  event.stopPropagation();
  const text = by("find-field").value.trim().toLowerCase();
  for (const item of by("fields").children) item.hidden = !item.textContent.toLowerCase().includes(text);
});

// --- Rules.

// A rule that can be counted as it is: of a time the last month, else that there is a value.
function newRule(name) {
  const line = ofIndex().querySelector("ol > li");
  const [field, operator] = line.querySelectorAll("select");
  if (name) field.value = name;
  operator.value = field.selectedOptions[0].dataset.type === "date" ? "relative_less_than" : "is_not_empty";
  return line;
}

function arrangeRule(line, at) {
  const [field, operator, ...operands] = line.querySelectorAll("input, select");
  const { type } = field.selectedOptions[0].dataset;
  for (const option of operator.options) option.hidden = option.disabled = !option.dataset.types.split(" ").includes(type);
  const needed = operator.selectedOptions[0].dataset.operands.split(" ");
  const isList = operator.value === "is_one_of", isChoice = type === "boolean" && !isList;
  for (const input of operands) {
    const fits = input.name !== "rule-value" || (input.tagName === "SELECT") === isChoice;
    input.hidden = input.disabled = !fits || !needed.includes(input.name.slice("rule-".length));
  }
  const [value] = operands;
  value.placeholder = isList ? 'one, "another, with a comma"' : type === "date" ? "2026-05-26T12:00:00Z" : "";
  value.inputMode = type === "number" && !isList ? "decimal" : "text";
  for (const input of [field, operator, ...operands]) {
    input.ariaLabel = input.disabled ? null : `Rule ${at + 1}: ${input.name.slice("rule-".length).replace("_", " ")}`;
  }
  line.querySelector("button").ariaLabel = `Remove rule ${at + 1}`;
}

by("add-rule").addEventListener("click", () => {
  by("rules").append(newRule());
  changed();
  by("rules").lastElementChild.querySelector("select").focus();
});

by("rules").addEventListener("input", (event) => {
  if (event.target.name !== "rule-field") return;
  const line = newRule(event.target.value);
  event.target.closest("li").replaceWith(line);
  line.querySelector("select").focus();
});

by("rules").addEventListener("click", (event) => {
  if (event.target.tagName !== "BUTTON") return;
  event.target.closest("li").remove();
  changed();
  by("add-rule").focus();
});

// --- The inputs that others ask for.

function arrange() {
  const when = by("when").value, format = by("format").value;
  const repeats = when === "cron" || by("repeat").value !== "";
  const { takes } = by("deliver").selectedOptions[0].dataset;
  show("at-line", when === "at");
  show("cron-line", when === "cron");
  show("repeat-line", when !== "cron");
  show("zone-line", repeats || "always" in by("zone-line").dataset);
  show("profile-line", format === "csv");
  show("share-line", format === "parquet");
  show("deletes-line", by("incremental").value !== "");
  for (const id of ["path-line", "overwrite-line"]) show(id, takes === "files");
  for (const id of ["table-line", "mode-line"]) show(id, takes === "tables");
  by("compression").disabled = !by("format").dataset.compressible.split(" ").includes(format);
  if (by("compression").disabled) by("compression").value = "";
  by("builder").hidden = by("builder").disabled = by("stored").value !== "";
  for (const box of by("more").querySelectorAll("input")) box.closest("li").hidden = box.value === by("index").value;
  [...by("rules").children].forEach(arrangeRule);
  htmx.trigger("#show-sample", "htmx:abort");
  by("sample").replaceChildren();
}

form.addEventListener("input", arrange);

// --- What is sent.

// One key for all tries of a request: a second click after a lost answer finds the task that the first one made.
form.addEventListener("input", () => {
  form.elements.idempotency_key.value = newKey();
});
form.addEventListener("htmx:beforeRequest", ({ target }) => { if (target === form) form.querySelector(".main").disabled = true; });
form.addEventListener("htmx:afterRequest", ({ target, detail }) => {
  if (target === form) form.querySelector(".main").disabled = Boolean(detail.xhr.getResponseHeader("HX-Redirect"));
});
window.addEventListener("pageshow", () => { form.querySelector(".main").disabled = false; }); // also where one comes back

// A refusal of the service says what is wrong, for the place of the answer. One of a proxy has no request id.
form.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (!detail.isError || !detail.xhr.getResponseHeader("X-Request-Id")) return;
  detail.shouldSwap = true;
  detail.isError = false;
});

by("store").addEventListener("htmx:configRequest", (event) => {
  const name = prompt("A name for the segment");
  if (name) event.detail.parameters["segment-name"] = name;
  else event.preventDefault();
});
by("stored").addEventListener("htmx:oobAfterSwap", changed); // it is chosen

by("at-zone").value = zone; // of console.js, which comes first
by("at-label").textContent = "Time, in your zone";
by("stored").querySelector("option[value=from]")?.remove(); // the lines have these rules
arrange();
