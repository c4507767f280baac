// What the words are understood to ask for, told while they are written. A press makes a field of what was understood.

import { allGiven, canGive, FIELDS, give, isGiven, takeBack } from "./fields.js";
import { checked, markFields, Refused, unmark } from "./problems.js";

const $ = (id) => document.getElementById(id);
const PAUSE_MS = 250;
const LONGEST_QUOTE = 60;
const MOST_NAMED = 3;

const quoted = ({ text }) => `“${text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text}”`;

// What of an intent does not become music, and why: a sentence for each, a track's card has the same.
export function unfollowed({ not_followed, conflicts, not_understood }) {
  const lines = [
    ...not_followed.map(({ words, why }) => `${quoted(words)}: ${why}`),
    ...conflicts.map(({ words }) => `${words.map(quoted).join(" and ")} do not go together`),
  ];
  if (not_understood.length) lines.push(`not understood: ${not_understood.map(quoted).join(", ")}`);
  return [...new Set(lines)];
}

// Written anew only where it says something else, so that nobody who reads along loses the place.
export function putLines(list, lines) {
  if (JSON.stringify([...list.children].map(({ textContent }) => textContent)) === JSON.stringify(lines)) return;
  list.replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

// What a reading gives its field; undefined where something else holds, or no field can say it.
function valueIn(request, { field, value }) {
  const asked = request[field];
  if (!(field in FIELDS) || asked === null || asked === undefined) return undefined;
  if (FIELDS[field].isList) return asked.includes(value) ? [value] : undefined;
  if (field === "sections") return asked;
  const said = { style: value.nearest?.[0], ensemble: value.kind }[field] ?? value;
  return said === asked ? asked : undefined;
}

// One chip for each field that words say, and one for each thing understood that no field can say.
function chipsOf({ readings, not_followed, request }) {
  const fields = new Map(), others = new Map();
  const isTold = ({ start, end }) => not_followed.some(({ words }) => words.start === start && words.end === end);
  const add = (field, value, words) => {
    const chip = fields.get(field) ?? { field, value, words: [] };
    if (FIELDS[field].isList) chip.value = [...new Set([...chip.value, ...value])];
    fields.set(field, chip);
    chip.words.push(words);
  };
  for (const reading of readings) {
    const { field, value, words } = reading, holds = valueIn(request, reading);
    if (field === "ensemble" && value.instruments?.length) {
      const playing = value.instruments.filter((name) => request.instruments?.includes(name));
      if (playing.length) add("instruments", playing, words);
    }
    if (holds !== undefined) add(field, holds, words);
    else if (!isTold(words)) others.set(`${field} ${JSON.stringify(value)}`, { said: toldWithoutField(field, value), words: [words] });
  }
  const told = Object.keys(FIELDS).filter((name) => fields.has(name)).map((name) => [name, fields.get(name)]);
  return [...told, ...[...others].sort(([one], [other]) => (one < other ? -1 : 1))];
}

// The cello of "solo cello" is not named twice.
function outermost(words) {
  const isInside = (one, other) => other.start <= one.start && one.end <= other.end && one !== other;
  const once = words.filter((one, i) => words.findIndex(({ start, end }) => start === one.start && end === one.end) === i);
  return once.filter((one) => !once.some((other) => isInside(one, other)));
}

function toldWithoutField(field, value) {
  if (field === "use") return `for ${value}`;
  if (field === "exclude") return `not ${value}`;
  const name = field.replace(/_(bpm|s|hz|lufs)$/, "").replaceAll("_", " ");
  return typeof value === "object" ? name : `${name} ${value}`;
}

let timer = 0;
let asking = null; // AbortController of the one request under way
let answered = null; // the request whose answer is shown, as it was sent
let answer = null;
let composing = false; // whether an input method is in the middle of a word
let marked = []; // places that tell what the last answer found wrong, and what they say

function readSoon() {
  if (composing) return;
  stop();
  timer = setTimeout(readNow, PAUSE_MS);
}

function stop() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
}

export async function readNow() {
  stop();
  const prompt = $("prompt").value, model = $("model").value;
  if (!prompt.trim()) { settle(null, null); return; }
  const body = JSON.stringify({ prompt, ...allGiven(), ...(model && { model }) });
  if (body === answered) { settle(body, answer); return; }
  const mine = asking = new AbortController();
  const headers = { "Content-Type": "application/json" };
  try {
    const response = await checked(await fetch("v1/intent", { method: "POST", body, headers, signal: mine.signal }));
    const told = await response.json();
    if (!mine.signal.aborted) settle(body, told);
  } catch (error) {
    if (!mine.signal.aborted) refuse(error);
  } finally {
    if (asking === mine) asking = null;
  }
}

function unmarkAll() {
  for (const [place, text] of marked) if (place.textContent === text) unmark(place);
  marked = [];
}

function settle(body, told) {
  [answered, answer] = [body, told];
  unmarkAll();
  showIntent();
}

// What was understood before stays, so that a press that led here can be taken back; it is shown to be of before.
function refuse(error) {
  answered = null;
  unmarkAll();
  $("intent").toggleAttribute("data-stale", true);
  if (!(error instanceof Refused)) { summarize("What is understood cannot be told now: the server does not answer."); return; }
  const { lines, places } = markFields(error);
  marked = [...places].map((place) => [place, place.textContent]);
  summarize(lines.join(" "));
}

// A live region: it is written only when it says something else.
function summarize(text) { if ($("intent-summary").textContent !== text) $("intent-summary").textContent = text; }

function showIntent() {
  $("intent").toggleAttribute("data-stale", false);
  const chips = answer ? chipsOf(answer) : [];
  showChips(chips);
  putLines($("intent-unfollowed"), answer ? unfollowed(answer) : []);
  if (!answer) { summarize(""); return; }
  const { not_followed, conflicts, not_understood } = answer;
  summarize([
    `${chips.length || "Nothing"} understood.`,
    named("Not followed", not_followed.map(({ words }) => quoted(words))),
    named("Not both", conflicts.map(({ words }) => words.map(quoted).join(" and "))),
    named("Not understood", not_understood.map(quoted)),
  ].filter(Boolean).join(" "));
}

function named(what, quotes) {
  const once = [...new Set(quotes)], more = once.length > MOST_NAMED ? ` and ${once.length - MOST_NAMED} more` : "";
  return once.length ? `${what}: ${once.slice(0, MOST_NAMED).join(", ")}${more}.` : "";
}

// Chips keep their elements and are never moved: one that has just been pressed keeps the focus.
function showChips(chips) {
  const list = $("intent-chips"), wanted = new Map(chips);
  for (const item of [...list.children]) if (!wanted.has(item.dataset.chip)) item.remove();
  let next = list.firstElementChild;
  for (const [key, chip] of chips) {
    if (next?.dataset.chip === key) { tell(next, chip); next = next.nextElementSibling; continue; }
    const item = document.createElement("li");
    item.dataset.chip = key;
    tell(item, chip);
    list.insertBefore(item, next);
  }
}

function tell(item, { field, value, said, words }) {
  const isButton = field !== undefined && canGive(field, value), kind = isButton ? "BUTTON" : "SPAN";
  let chip = item.firstElementChild;
  if (chip?.tagName !== kind) {
    chip = document.createElement(kind);
    chip.className = "chip";
    chip.append(document.createElement("span"), document.createElement("small"));
    if (isButton) chip.type = "button";
    item.replaceChildren(chip);
  }
  const isField = isButton && isGiven(field, value);
  const texts = [said ?? FIELDS[field].told(value), `${isField ? ", a field" : ""}, from ${outermost(words).map(quoted).join(" and ")}`];
  texts.forEach((text, i) => { if (chip.children[i].textContent !== text) chip.children[i].textContent = text; });
  if (!isButton) return;
  chip.setAttribute("aria-pressed", String(isField));
  chip.title = isField ? "A field now; press to leave it to the words again" : "Press to make it a field";
  chip.onclick = () => {
    if (isField) takeBack(field, value);
    else give(field, value);
    // For whoever else follows the form; what it says is asked for at once.
    chip.dispatchEvent(new Event("input", { bubbles: true }));
    showChips(chipsOf(answer));
    readNow();
  };
}

$("prompt").addEventListener("compositionstart", () => { composing = true; stop(); });
$("prompt").addEventListener("compositionend", () => { composing = false; readSoon(); });
$("form").addEventListener("input", readSoon);
