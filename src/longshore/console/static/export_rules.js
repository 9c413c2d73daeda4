// The page "New export", first part: the fields of the index and the lines of its rules. `export.js` is the second.
"use strict";

const known = JSON.parse(document.getElementById("known").textContent);
const by = (id) => document.getElementById(id);
const rules = []; // {path, name, operator, operands}
const { like } = known; // the export that this one repeats: what the form does not show of it stays

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function options(select, values, chosen) {
  select.replaceChildren(...values.map((each) => {
    const [value, label] = Array.isArray(each) ? each : [each, each];
    return make("option", { value, textContent: label, selected: value === chosen });
  }));
}

// --- The fields of the index, and what a rule can be made of.

const fieldsNow = () => known.indexes[by("index").value].fields;

function targets() {
  return fieldsNow().flatMap((field) => field.type === "nested"
    ? field.fields.map((inner) => ({ ...inner, path: field.name }))
    : [{ ...field, path: "" }]);
}

const keyOf = (target) => (target.path ? `${target.path}.${target.name}` : target.name);
const fieldOf = (rule) => targets().find((each) => each.name === rule.name && each.path === rule.path);
const operatorsFor = (type) => Object.keys(known.operators).filter((name) => known.operators[name].types.includes(type));

// A rule that can be counted as it is: of a time the last month, else that there is a value.
function startOf(type) {
  if (type === "date") return { operator: "relative_less_than", operands: { time_factor: "day", time_amount: "30" } };
  const operators = operatorsFor(type);
  return { operator: operators.includes("is_not_empty") ? "is_not_empty" : operators[0], operands: {} };
}

function drawFields(chosen) {
  by("fields").replaceChildren(...fieldsNow().map((field) => {
    const box = make("input", { type: "checkbox", value: field.name, checked: !chosen || chosen.includes(field.name) });
    return make("li", {}, make("label", { title: field.description }, box, make("span", { textContent: field.name }),
      make("span", { className: "note", textContent: `${field.type} · ${field.description}` })));
  }));
}

function operandInput(rule, need, type, number) {
  const label = need.replace("_", " ");
  let input;
  if (need === "time_factor") { input = make("select"); options(input, known.factors, rule.operands[need] ||= "day"); }
  else if (need === "window") { input = make("select"); options(input, known.windows.map((each) => [each, each.replace("_", " ")]), rule.operands[need] ||= known.windows[0]); }
  else if (type === "boolean" && rule.operator !== "is_one_of") { input = make("select"); options(input, ["true", "false"], rule.operands[need] ||= "true"); }
  else {
    input = make("input", { value: rule.operands[need] ?? "" });
    if (need === "time_amount") input.type = "number";
    else if (type === "date" && need !== "timezone") input.placeholder = "2026-05-26T12:00:00Z";
    else if (rule.operator === "is_one_of") input.placeholder = 'one, "another, with a comma"';
    else if (type === "number") input.inputMode = "decimal";
    if (need === "timezone") input.placeholder = "zone: UTC";
  }
  input.setAttribute("aria-label", `Rule ${number + 1}: ${label}`);
  input.addEventListener("input", () => { rule.operands[need] = input.value; changed(); });
  return input;
}

function drawRules() {
  by("rules").replaceChildren(...rules.map((rule, number) => {
    const field = fieldOf(rule);
    const choose = make("select", { ariaLabel: `Rule ${number + 1}: field` });
    options(choose, targets().map((each) => [keyOf(each), keyOf(each)]), keyOf(rule));
    choose.addEventListener("change", () => {
      const target = targets().find((each) => keyOf(each) === choose.value);
      Object.assign(rule, { name: target.name, path: target.path, operands: {} });
      Object.assign(rule, startOf(target.type));
      drawRules(); changed();
    });
    const how = make("select", { ariaLabel: `Rule ${number + 1}: operator` });
    options(how, operatorsFor(field.type).map((each) => [each, known.operators[each].label]), rule.operator);
    how.addEventListener("change", () => { rule.operator = how.value; rule.operands = {}; drawRules(); changed(); });
    const about = known.operators[rule.operator];
    const inputs = [...about.needs, ...about.may].map((need) => operandInput(rule, need, field.type, number));
    const remove = make("button", { type: "button", className: "quiet", textContent: "Remove", ariaLabel: `Remove rule ${number + 1}` });
    remove.addEventListener("click", () => { rules.splice(number, 1); drawRules(); changed(); by("add-rule").focus(); });
    return make("li", {}, choose, how, ...inputs, remove);
  }));
}

// --- The request.

const NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/;

// Values between commas; those in double quotes may have commas, and blanks at their ends.
function parts(text) {
  const found = `${text},`.matchAll(/\s*(?:"((?:[^"]|"")*)"\s*|([^,]*)),/g);
  return [...found].map(([, quoted, plain]) => (quoted === undefined ? plain.trim() : quoted.replaceAll('""', '"')));
}

const joined = (values) => values.map((each) => (/^$|^\s|\s$|[",]/.test(each) ? `"${each.replaceAll('"', '""')}"` : each)).join(", ");

function typed(text, type) {
  const word = text.trim();
  if (type === "number" && NUMBER.test(word) && String(Number(word)) !== word) return EXACT + word;
  if (type === "number" && word !== "" && Number.isFinite(Number(word))) return Number(word);
  if (type === "boolean") return word === "true";
  return type === "number" || type === "date" ? word : text;
}

function ruleBody(rule) {
  const field = fieldOf(rule);
  const body = { field_name: rule.name, field_type: field.type, operator: rule.operator };
  for (const [need, text] of Object.entries(rule.operands)) {
    if (text === "") continue;
    if (need === "time_amount") body[need] = Number(text);
    else if (rule.operator === "is_one_of") body[need] = parts(text).map((each) => typed(each, field.type));
    else if (["value", "min", "max"].includes(need)) body[need] = typed(text, field.type);
    else body[need] = text;
  }
  if (rule.path) Object.assign(body, { nested: true, nesting_path: rule.path });
  return body;
}
