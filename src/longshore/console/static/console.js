// What every page does: times in the viewer's zone, requests to the API, and what moves.
"use strict";

const chain = document.body.dataset.chain;
const said = document.getElementById("said");

function say(text) {
  said.textContent = text;
}

// --- Times: the page comes in UTC, which stays in the title.

const long = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const short = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });

function localise(root) {
  for (const element of root.querySelectorAll("time[datetime]:not([data-day])")) {
    const moment = new Date(element.dateTime);
    element.textContent = ("short" in element.dataset ? short : long).format(moment);
  }
}

// The days of the calendar are the viewer's, so what is planned moves to theirs.
function regroup() {
  const days = [...document.querySelectorAll(".week > li")];
  if (!days.length) return;
  const today = new Date();
  today.setHours(0, 0, 0, 0);
  const items = [...document.querySelectorAll(".week > li > ul > li")];
  for (const old of document.querySelectorAll(".week > li > ul, .week > li > p.none")) old.remove();
  days.forEach((element, number) => {
    const date = new Date(today);
    date.setDate(today.getDate() + number);
    element.querySelector("time").textContent = day.format(date);
  });
  for (const item of items) {
    const date = new Date(item.querySelector("time").dateTime);
    date.setHours(0, 0, 0, 0);
    const column = days[Math.min(days.length - 1, Math.max(0, Math.round((date - today) / 86400000)))];
    const list = column.querySelector("ul") || column.appendChild(document.createElement("ul"));
    list.append(item);
  }
  for (const empty of days.filter((each) => !each.querySelector("ul"))) {
    empty.append(Object.assign(document.createElement("p"), { className: "none", textContent: "–" }));
  }
}

// --- Requests to the API, with the session's cookie.

async function ask(method, path, body, headers = {}) {
  const options = { method, headers: { "X-Session-Chain-Id": chain, ...headers } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (answer.status === 401 && !path.startsWith("/auth/password")) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {}); // the page goes away
  }
  const text = await answer.text();
  const content = text ? JSON.parse(text) : null;
  if (!answer.ok) throw content;
  return content;
}

function faultsOf(problem) {
  if (!problem || !problem.title) return [String(problem)];
  if (!problem.errors) return [`${problem.title}: ${problem.detail}`];
  return problem.errors.map((fault) => [fault.pointer || fault.parameter, fault.detail].filter(Boolean).join(" "));
}

function show(faults, place) {
  const list = document.createElement("ul");
  list.className = "fault";
  for (const fault of faults) {
    const line = document.createElement("li");
    line.textContent = fault;
    list.append(line);
  }
  place.replaceChildren(list);
}

function then(element) {
  if (element.dataset.then !== undefined) {
    if (element.dataset.then) location.assign(element.dataset.then);
    else location.reload();
    return;
  }
  if (element.dataset.said) say(element.dataset.said);
  const part = document.getElementById("part");
  if (part) htmx.trigger(part, "changed");
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-api], button[data-download]");
  if (!button) return;
  if (button.dataset.sure && !confirm(button.dataset.sure)) return;
  button.disabled = true;
  try {
    if (button.dataset.download) {
      location.assign((await ask("GET", button.dataset.download)).url);
      return;
    }
    const [method, path] = button.dataset.api.split(" ");
    const body = button.dataset.body === undefined ? undefined : JSON.parse(button.dataset.body);
    await ask(method, path, body, button.dataset.prefer ? { Prefer: button.dataset.prefer } : {});
    then(button);
  } catch (problem) {
    say(faultsOf(problem).join("; "));
  } finally {
    button.disabled = false;
  }
});

// The files of a run, each with a link of its own; a page of them is one link of the service.
const FILES_PAGE = 100;

async function showFiles(path, offset) {
  const dialog = document.getElementById("files");
  const list = dialog.querySelector("ul");
  const more = document.getElementById("files-more");
  const files = await ask("GET", `${path}?limit=${FILES_PAGE}&offset=${offset}`);
  if (!offset) list.replaceChildren();
  for (const file of files) {
    const link = document.createElement("a");
    link.href = file.url;
    link.textContent = file.path;
    const item = document.createElement("li");
    item.append(link, ` ${file.rows.toLocaleString("en")} rows, ${file.bytes.toLocaleString("en")} bytes`);
    list.append(item);
  }
  more.hidden = files.length < FILES_PAGE;
  more.dataset.files = path;
  more.dataset.offset = offset + files.length;
  if (!dialog.open) dialog.showModal();
}

document.addEventListener("click", async (event) => {
  if (event.target.closest("#files-close")) return document.getElementById("files").close();
  const button = event.target.closest("button[data-files]");
  if (!button) return;
  try {
    await showFiles(button.dataset.files, Number(button.dataset.offset || 0));
  } catch (problem) {
    say(faultsOf(problem).join("; "));
  }
});

function valueOf(field) {
  if (field.dataset.kind === "list") {
    const chosen = [...field.selectedOptions].map((option) => option.value);
    return chosen.length ? chosen : undefined;
  }
  if (field.value === "" && field.dataset.kind) return undefined;
  if (field.dataset.kind === "number") return Number(field.value);
  if (field.dataset.kind === "moment") return new Date(field.value).toISOString();
  return field.value;
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-api]");
  if (!form) return;
  event.preventDefault();
  const body = {};
  for (const field of form.elements) {
    const value = field.name ? valueOf(field) : undefined;
    if (value !== undefined) body[field.name] = value;
  }
  let place = form.querySelector(".answer");
  if (!place) {
    place = form.appendChild(document.createElement("div"));
    place.className = "answer";
    place.setAttribute("role", "alert");
  }
  place.replaceChildren();
  try {
    const [method, path] = form.dataset.api.split(" ");
    const made = await ask(method, path, body);
    if ("secret" in form.dataset) {
      const output = form.querySelector("output");
      output.textContent = `Keep this; it cannot be shown again: ${made.id}:${made.secret}`;
      output.hidden = false;
      form.querySelector("button[type=submit]").disabled = true;
      return;
    }
    then(form);
  } catch (problem) {
    show(faultsOf(problem), place);
  }
});

document.addEventListener("change", (event) => {
  const go = event.target.closest("select[data-go]");
  if (go) location.assign(go.dataset.go.replace("{}", go.value));
  const auto = event.target.closest("form[data-auto]");
  if (auto) auto.requestSubmit();
});

// --- The curve of rows a second, from what this page has seen of the run.

const seen = { run: "", at: 0, rows: 0, speeds: [] };

function curve() {
  const progress = document.querySelector(".progress[data-run]");
  if (!progress) return;
  const { run, rows } = progress.dataset;
  const now = performance.now();
  if (seen.run !== run || Number(rows) < seen.rows) Object.assign(seen, { run, at: now, rows: Number(rows), speeds: [] });
  if (Number(rows) > seen.rows && now - seen.at > 200) {
    seen.speeds.push(((Number(rows) - seen.rows) / (now - seen.at)) * 1000);
    if (seen.speeds.length > 300) seen.speeds.shift();
    Object.assign(seen, { at: now, rows: Number(rows) });
  }
  const drawing = progress.querySelector(".curve");
  if (seen.speeds.length < 2) return;
  drawing.removeAttribute("hidden");
  const most = Math.max(...seen.speeds);
  const points = seen.speeds.map((speed, at) => `${(at / (seen.speeds.length - 1)) * 300},${58 - (speed / most) * 54}`);
  drawing.querySelector("polyline").setAttribute("points", points.join(" "));
  drawing.setAttribute("aria-label", `Rows per second, at most ${Math.round(most).toLocaleString()}`);
}

// A page that nobody sees asks for nothing.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.requestConfig.verb === "get" && event.target.matches("[hx-trigger^=every]")) {
    event.preventDefault();
  }
});

// A click takes a moment, and what is under it stays until it is over. One whose end nobody tells of lasts a second.

const press = { since: -Infinity, missed: false };

function released() {
  setTimeout(() => { // after the click
    press.since = -Infinity;
    const part = document.getElementById("part");
    if (press.missed && part) htmx.trigger(part, "changed");
    press.missed = false;
  });
}

document.addEventListener("pointerdown", () => { press.since = performance.now(); });
document.addEventListener("pointerup", released);
document.addEventListener("pointercancel", released);

document.addEventListener("htmx:beforeSwap", (event) => {
  if (performance.now() - press.since > 1000) return;
  event.detail.shouldSwap = false;
  press.missed = true;
});

document.addEventListener("htmx:afterSwap", (event) => {
  localise(event.target);
  curve();
});

localise(document);
regroup();
curve();
