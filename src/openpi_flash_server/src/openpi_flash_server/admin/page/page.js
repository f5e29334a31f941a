// The operator's page: asks for /status once a second and shows it. No libraries, no other hosts.
"use strict";

const EVERY_MS = 1000;
const KEY = "openpi-flash admin key";
const byId = (id) => document.getElementById(id);
// text only, never markup: names and errors come from clients
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

class KeyWanted extends Error {}

async function ask(path) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { headers, cache: "no-store" });
  if (response.status === 401) throw new KeyWanted(key ? "the server does not know this key" : "");
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (part) => (part === null || part === undefined ? "–" : `${(100 * part).toFixed(2)} %`);

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h ${Math.floor((seconds % 3600) / 60)} min` : `${Math.floor(hours / 24)} d`;
}

function spark(card, view) {
  const values = view.latency_ms;
  const top = Math.max(...values, 1e-3);
  const step = 240 / Math.max(values.length - 1, 1);
  const points = values.map((ms, i) => `${(i * step).toFixed(1)},${(38 - 36 * (ms / top)).toFixed(1)}`);
  card.querySelector(".spark polyline").setAttribute("points", points.join(" "));
  put(card.querySelector(":scope > figure figcaption"), values.length === 0 ? "no answers yet"
    : `latency, last ${values.length}: median ${number(view.latency_p50_ms)} ms, p99 ${number(view.latency_p99_ms)} ms, max ${number(top)} ms`);
}

function list(card, rows) {
  const dl = card.querySelector("dl");
  const known = new Map([...dl.querySelectorAll("dt")].map((dt) => [dt.textContent, dt.nextElementSibling]));
  for (const [name, text] of rows) {
    if (!known.has(name)) {
      const dt = document.createElement("dt"), dd = document.createElement("dd");
      dt.textContent = name;
      dl.append(dt, dd);
      known.set(name, dd);
    }
    put(known.get(name), text);
  }
}

function badge(card, text, kind) {
  const element = card.querySelector(".badge");
  put(element, text);
  element.className = `badge ${kind}`;
}

// one card for each key, in the order of `entries`; cards stay the same element while their key is there
function cards(container, template, entries, show) {
  const known = new Map([...container.children].map((card) => [card.dataset.key, card]));
  entries.forEach(([key, view], i) => {
    let card = known.get(key);
    if (!card) {
      card = byId(template).content.firstElementChild.cloneNode(true);
      card.dataset.key = key;
    }
    known.delete(key);
    if (container.children[i] !== card) container.insertBefore(card, container.children[i] ?? null);
    show(card, key, view);
  });
  for (const card of known.values()) {
    for (const img of card.querySelectorAll(".frames img")) URL.revokeObjectURL(img.src);
    card.remove();
  }
}

function showSlot(card, name, slot) {
  put(card.querySelector(".name"), name);
  badge(card, slot.ready ? "ready" : slot.reason, slot.ready ? "good" : "bad");
  const checkpoint = slot.checkpoint ?? {};
  list(card, [
    ["model", [slot.model, slot.config].filter(Boolean).join(" · ") || "–"],
    ["checkpoint", checkpoint.name ? `${checkpoint.name} (${checkpoint.digest.slice(0, 19)}…)` : "–"],
    ["robot", slot.robot || "–"],
    ["listens", Object.entries(slot.listens).map(([link, where]) => `${link} ${where}`).join(", ")],
    ["answers", `${number(slot.rate_hz)} /s`],
  ]);
  spark(card, slot);
}

const wanted = new Map(); // session id -> frame names

function showSession(card, id, view) {
  put(card.querySelector(".name"), view.session);
  badge(card, view.connected ? `${view.slot} · connected` : `${view.slot} · gone`, view.connected ? "good" : "bad");
  put(card.querySelector(".prompt"), view.prompt);
  put(card.querySelector(".subtask"), view.subtask ? ` → ${view.subtask}` : "");
  put(card.querySelector(".error"), view.last_error);
  list(card, [
    ["client", [view.client, view.software].filter(Boolean).join(" · ")],
    ["link", view.link || "–"],
    ["round trip", view.rtt_ms === null ? "–" : `${number(view.rtt_ms)} ms`],
    ["loss", percent(view.loss)],
    ["rate", `${number(view.rate_hz)} /s`],
    ["requests", `${view.received} · ${view.answered} answered · ${view.superseded} superseded · ${view.errors} errors`],
    ["last", `${duration(view.idle_s)} ago`],
  ]);
  spark(card, view);
  wanted.set(id, view.frames);
}

async function loadFrames() {
  for (const [id, names] of wanted) {
    const card = byId("sessions").querySelector(`[data-key="${id}"]`);
    if (!card) { wanted.delete(id); continue; }
    const box = card.querySelector(".frames");
    for (const figure of [...box.children]) {
      if (!names.includes(figure.dataset.name)) {
        URL.revokeObjectURL(figure.querySelector("img").src);
        figure.remove();
      }
    }
    for (const name of names) {
      let blob;
      try {
        const path = name.split("/").map(encodeURIComponent).join("/");
        blob = await (await ask(`/sessions/${id}/frames/${path}`)).blob();
      } catch {
        continue; // the session has ended meanwhile, or its image cannot be decoded
      }
      let figure = [...box.children].find((one) => one.dataset.name === name);
      if (!figure) {
        figure = document.createElement("figure");
        figure.dataset.name = name;
        const img = document.createElement("img"), caption = document.createElement("figcaption");
        img.alt = `camera ${name}`;
        caption.textContent = name.split("/").at(-1);
        figure.title = name;
        figure.append(img, caption);
        box.append(figure);
      }
      const img = figure.querySelector("img"), before = img.src;
      img.src = URL.createObjectURL(blob);
      if (before) URL.revokeObjectURL(before);
    }
  }
}

function line(id, text, kind) {
  put(byId(id), text);
  byId(id).className = kind;
  byId(id).hidden = text === "";
}

function recording(found) {
  if (!found) return "";
  const counted = `${found.written} records in ${found.directory}, ${found.dropped} lost`;
  return found.stopped_because === null ? `recording: ${counted}` : `RECORDING STOPPED: ${found.stopped_because} · ${counted}`;
}

const shadow = (found) => (!found ? ""
  : `shadow: ${found.equal} equal · ${found.different} different, by ${found.largest_difference.toPrecision(3)} at most · `
    + `${found.failed} failed · ${found.not_run} not run`);

function show(status) {
  put(byId("state"), status.state);
  byId("state").className = status.state === "ready" ? "good" : "bad";
  put(byId("identity"), `${status.mode} · up ${duration(status.uptime_s)} · server ${status.versions.server} · `
    + `config ${status.config_digest.slice(0, 19)}… · prompts ${status.prompt_version}`);
  line("recording", recording(status.recording), status.recording?.stopped_because ? "bad" : "soft");
  line("shadow", shadow(status.shadow), "soft");
  cards(byId("slots"), "slot-template", Object.entries(status.slots), showSlot);
  cards(byId("sessions"), "session-template", status.sessions.map((one) => [one.id, one]), showSession);
  byId("no-sessions").hidden = status.sessions.length > 0;
  byId("main").hidden = false;
  byId("key-form").hidden = true;
}

async function refresh() {
  try {
    show(await (await ask("/status")).json());
    await loadFrames();
  } catch (error) {
    if (error instanceof KeyWanted) {
      sessionStorage.removeItem(KEY);
      byId("main").hidden = true;
      byId("key-form").hidden = false;
      put(byId("state"), "a key is needed");
      if (error.message) put(byId("key-problem"), error.message);
      return; // the form goes on
    }
    put(byId("state"), "no answer from the server");
    byId("state").className = "bad";
  }
  setTimeout(refresh, EVERY_MS);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value);
  byId("key").value = "";
  put(byId("key-problem"), "");
  refresh();
});
refresh();
