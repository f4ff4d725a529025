// The operator's page. Everything that is shown comes from the JSON of status, policy and blocks beside it. Names and
// subjects are chosen by others than the operator: they are inserted as text, never as HTML, and invisible characters
// are shown.
"use strict";

const DECISIONS = ["pass", "would_refuse", "401", "403", "421", "425", "503"];
const MEANING = {
  pass: "let in", would_refuse: "let in by enforce: report",
  401: "401, no or no trusted certificate", 403: "403, not permitted",
  421: "421, connection of another name", 425: "425, early data", 503: "503, not available",
};
// Bars of the plot, rows of a table before "Show more", and rows of a page of routes or names.
const BARS = 60;
const ROWS = 50;
const PAGE = 50;
const DAY = 86400;

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");

// Control and format characters could hide or reorder what stands around them.
function visible(text) {
  return String(text).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

// The same of text with several lines.
const visibleLines = (text) => String(text).split("\n").map(visible).join("\n");

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

const foreign = (text, kind = "") => element("span", { class: `foreign ${kind}` }, visible(text));
const word = (kind, text) => element("span", { class: kind }, text);
const none = (text) => element("p", { class: "none" }, text);

function span(seconds) {
  const size = Math.abs(seconds);
  const [number, unit] = size < 120 ? [size, "second"] : size < 7200 ? [size / 60, "minute"]
    : size < 2 * DAY ? [size / 3600, "hour"] : [size / DAY, "day"];
  return plural(Math.floor(number), unit);
}

const plural = (number, one) => `${count.format(number)} ${one}${number === 1 ? "" : "s"}`;
const relative = (seconds) => seconds < 0 ? `${span(seconds)} ago` : `in ${span(seconds)}`;
const now = () => Date.now() / 1000;

function time(seconds) {
  if (!seconds) return word("none", "never");
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return "unknown";
  const text = date.toISOString();
  return element("time", { datetime: text },
    `${text.slice(0, 16).replace("T", " ")} UTC (${relative(seconds - now())})`);
}

// When something ends: marked from a week before.
function end(seconds) {
  if (!seconds) return word("none", "no end");
  const left = seconds - now();
  const kind = left < 0 ? "bad" : left < 7 * DAY ? "warn" : "good";
  return element("span", { class: kind }, left < 0 ? "ended: " : left < 7 * DAY ? "soon: " : "", time(seconds));
}

// A table in a region that scrolls, and that the keyboard can scroll. columns: [heading, cell(row), class].
function table(caption, columns, rows, empty) {
  if (!rows.length) return element("div", {}, element("h3", {}, caption), none(empty));
  const head = element("tr", {}, ...columns.map(([heading, , kind]) =>
    element("th", { scope: "col", class: kind === "number" ? kind : "" }, heading)));
  const body = element("tbody");
  let shown = 0;
  const more = element("button", { type: "button" });
  const show = () => {
    for (const row of rows.slice(shown, shown + ROWS)) {
      body.append(element("tr", {}, ...columns.map(([, cell, kind], index) =>
        element(index ? "td" : "th", index ? { class: kind || "" } : { scope: "row", class: kind || "" }, cell(row)))));
    }
    shown = Math.min(rows.length, shown + ROWS);
    more.hidden = shown === rows.length;
    more.textContent = `Show more (${count.format(rows.length - shown)} of ${count.format(rows.length)} are not shown)`;
  };
  more.addEventListener("click", show);
  show();
  return element("div", {},
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      element("table", {}, element("caption", {}, caption), element("thead", {}, head), body)),
    more);
}

function put(id, ...children) {
  byId(id).replaceChildren(...children);
}

async function ask(path, options) {
  const answer = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
  const body = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body && body.message || `${path}: status ${answer.status}`);
  return body;
}

const entries = (object) => Object.entries(object || {});
