// What every page does: times in the viewer's zone, copying, keys, and what moves.
"use strict";

const chain = document.body.dataset.chain;
const message = document.getElementById("message");

function say(text) {
  message.textContent = text;
}

document.documentElement.classList.add("js");

// --- Times in the viewer's zone and with 24 hours; the page comes in UTC, which stays in the title.

const long = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const AGE_UNITS = [["y", 31557600], ["d", 86400], ["h", 3600], ["min", 60]];

function ago(moment) {
  const seconds = (Date.now() - moment) / 1000;
  const size = Math.abs(seconds);
  const [unit, length] = AGE_UNITS.find(([, each]) => size >= 1.5 * each) || ["s", 1];
  const text = `${Math.round(size / length)} ${unit}`;
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

function localise(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    const exact = long.format(moment);
    if (!("ago" in element.dataset)) { element.textContent = exact; continue; }
    element.textContent = ago(moment);
    if (!element.dataset.utc) element.dataset.utc = element.title;
    element.title = `${exact} (${element.dataset.utc})`;
  }
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-ago]")) element.textContent = ago(new Date(element.dateTime));
}, 10_000);

// The days of a page are the viewer's: the cookie names the viewer's zone. A zone in the address comes first.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.cookie = `zone=${encodeURIComponent(zone)}; path=/console; samesite=strict; max-age=31536000`;
const zoneForm = document.querySelector("form[data-zone]");
if (zoneForm && zoneForm.dataset.zone !== zone && !new URLSearchParams(location.search).has("zone") && navigator.cookieEnabled) {
  if (sessionStorage.getItem("zone") !== zone) { // once, should the service not know the zone
    sessionStorage.setItem("zone", zone);
    location.reload();
  }
}

// --- The curve of a run: rows over time, from what this page, or one before it in this tab, has seen.

const MAX_POINTS = 300;

function curve() {
  const progress = document.querySelector(".progress[data-run]");
  const drawing = progress && progress.querySelector(".curve svg");
  if (!drawing) return;
  const { run } = progress.dataset;
  const [rows, speed, expected] = ["rows", "speed", "expected"].map((name) => Number(progress.dataset[name]));
  const key = `curve ${run}`;
  const points = JSON.parse(sessionStorage.getItem(key) || "[[0, 0]]");
  const last = points[points.length - 1];
  const after = rows / speed;
  if (after > last[0] && rows >= last[1]) points.push([after, rows]);
  if (points.length > MAX_POINTS) points.splice(1, points.length - 2, ...points.slice(1, -1).filter((_, at) => at % 2));
  try { sessionStorage.setItem(key, JSON.stringify(points)); } catch { sessionStorage.clear(); }
  const width = Math.max(after, points[points.length - 1][0]);
  const height = Math.max(rows, expected);
  drawing.querySelector("polyline").setAttribute("points", points.map(([x, y]) => `${(x / width) * 100},${100 - (y / height) * 100}`).join(" "));
  const step = Math.ceil(points.length / 12);
  const lines = points.filter((_, at) => at % step === 0 || at === points.length - 1).map(([x, y]) => {
    const line = document.createElement("tr");
    for (const text of [`${x.toFixed(1)} s`, y.toLocaleString("en")]) line.append(Object.assign(document.createElement("td"), { textContent: text }));
    return line;
  });
  document.querySelector("#curve-values tbody").replaceChildren(...lines);
}

// --- Selecting tasks: a list with selected ones stands still.

function selection() {
  const boxes = [...document.querySelectorAll("#table input[name=id]")];
  const chosen = boxes.filter((box) => box.checked).length;
  for (const button of document.querySelectorAll("#table button[name=do]")) button.disabled = !chosen;
  const all = document.getElementById("select-all");
  if (all) { all.checked = chosen > 0 && chosen === boxes.length; all.indeterminate = chosen > 0 && chosen < boxes.length; }
  return chosen;
}

document.addEventListener("change", (event) => {
  if (event.target.id === "select-all") {
    for (const box of document.querySelectorAll("#table input[name=id]")) box.checked = event.target.checked;
  }
  if (event.target.closest("#table")) selection();
});

// --- Copying, keys and dialogs.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy], button[data-copy-of]");
  if (!button) return;
  const text = button.dataset.copy ?? document.getElementById(button.dataset.copyOf).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // without TLS there is no clipboard
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.classList.add("copied");
  say("Copied");
  setTimeout(() => { button.classList.remove("copied"); if (message.textContent === "Copied") say(""); }, 2000);
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener) document.getElementById(opener.dataset.dialog).showModal();
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) return;
  if (event.key === "?") document.getElementById("keys").showModal();
  else if (event.key === "/") {
    event.preventDefault();
    const search = document.querySelector("main input[type=search]");
    if (search) search.focus();
    else location.assign(`/console/${chain}/tasks#search`);
  }
});

// A form is sent once: its button is disabled once it is sent, until its answer is shown, or is a file or never comes.

const RESEND_MS = 10_000;

document.addEventListener("submit", ({ target, submitter, defaultPrevented }) => {
  if (defaultPrevented || target.method !== "post" || !submitter) return;
  setTimeout(() => { submitter.disabled = true; }); // after the browser has read its name and value
  setTimeout(() => { submitter.disabled = false; }, RESEND_MS);
});

// A key makes one request of all tries of a form. Only secure pages have `randomUUID`.
function newKey() { return crypto.randomUUID?.() ?? String(Math.random()); }

window.addEventListener("pageshow", ({ persisted }) => { // on Back the form may be another one
  if (persisted) for (const key of document.getElementsByName("idempotency_key")) key.value = newKey();
});

// A page that nobody sees asks for nothing, nor does a list with selected tasks.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.matches("[hx-trigger^=every]") && (document.hidden || selection())) event.preventDefault();
});

// A click takes a moment, and what is under it stays until it is over. Without a `pointerup`, a press counts as ended
// after a second.

const press = { since: -Infinity, missed: new Set() };

function released() {
  setTimeout(() => { // after the click
    press.since = -Infinity;
    for (const part of press.missed) htmx.trigger(part, "changed");
    press.missed.clear();
  });
}

document.addEventListener("pointerdown", () => { press.since = performance.now(); });
document.addEventListener("pointerup", released);
document.addEventListener("pointercancel", released);

document.addEventListener("htmx:beforeSwap", (event) => {
  const { target } = event.detail;
  if (performance.now() - press.since > 1000 || !target.matches("[hx-trigger]")) return;
  event.detail.shouldSwap = false;
  press.missed.add(target);
});

// --- The page of a task follows its events while it is visible: a browser opens six connections to a host for all of
// its pages, and each stream holds one.

const MAX_RECONNECT_MS = 64_000;
const live = document.querySelector("[data-events]");
let stream, retrying, seen = "", isDeleted = false;

function unfollow() {
  clearTimeout(retrying);
  stream?.close();
  stream = undefined;
}

function follow(pause = 1000) {
  if (document.hidden || stream || isDeleted) return;
  stream = new EventSource(`${live.dataset.events}?after=${seen}`);
  for (const name of ["state", "log", "end", "unauthorized"]) {
    stream.addEventListener(name, ({ lastEventId }) => {
      seen = lastEventId || seen;
      htmx.trigger("#part", "changed");
    });
  }
  stream.addEventListener("progress", () => htmx.trigger("#now", "progress"));
  stream.addEventListener("end", unfollow);
  stream.addEventListener("open", () => {
    pause = 1000;
    if (seen) htmx.trigger("#part", "changed"); // an update may have failed in the outage
  });
  stream.addEventListener("error", () => {
    if (stream?.readyState !== EventSource.CLOSED) return; // the browser itself connects again
    unfollow();
    retrying = setTimeout(follow, pause, Math.min(2 * pause, MAX_RECONNECT_MS));
  });
}

if (live) {
  follow();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { unfollow(); return; }
    htmx.trigger("#part", "changed");
    follow();
  });
}

for (const failure of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(failure, ({ detail }) => say(detail.elt.matches("[hx-trigger]")
    ? "This page could not be brought up to date; it tries again." : "The service did not answer; try again."));
}

document.addEventListener("htmx:responseError", ({ detail }) => {
  if (detail.elt.id !== "part" || detail.xhr.status !== 404) return;
  isDeleted = true;
  unfollow();
  say("This task was deleted.");
});

// A part that is replaced keeps open what its reader has opened, and closed what the reader has closed.
let isOpen = new Map();

document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const summaries = [...detail.target.querySelectorAll("details > summary[id]")];
  isOpen = new Map(summaries.map(({ id, parentElement }) => [id, parentElement.open]));
});

document.addEventListener("htmx:afterSwap", (event) => {
  for (const summary of event.target.querySelectorAll("details > summary[id]")) {
    if (isOpen.has(summary.id)) summary.parentElement.open = isOpen.get(summary.id);
  }
  localise(event.target);
  curve();
  selection();
});

localise(document);
curve();
selection();
if (location.hash === "#search") document.getElementById("search")?.focus();
