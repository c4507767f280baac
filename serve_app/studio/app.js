// The page: asks for a track as a stream of raw PCM, plays and draws it while it comes, then shows its record.
// No build step and no library. A request has the stage only once its first sound is there: until then, and when it is
// refused, whatever is on the stage stays and plays on.

import { Spectrogram, Waveform } from "./drawing.js";
import { allGiven, given, isFollowed } from "./fields.js";
import { forget, forgetAll, LIMIT, remember, remembered } from "./history.js";
import { putLines, readNow, unfollowed } from "./intent.js";
import { Player, Track } from "./playing.js";
import { checked, markFields, Refused, unmark } from "./problems.js";

const $ = (id) => document.getElementById(id);
const PRESETS = [
  ["Rainy study", "warm lofi, 78 bpm, 24 seconds"],
  ["Neon drive", "nostalgic synthwave in A minor, 100 bpm, 24 seconds"],
  ["Last waltz", "romantic waltz in Eb major, 20 seconds"],
  ["Boss fight", "triumphant chiptune, 150 bpm, 16 seconds"],
  ["Late bar", "smoky jazz in F minor, 110 bpm, 24 seconds"],
  ["Open road", "hopeful folk in G major, 30 seconds"],
];
const TONICS = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];
const MODES = ["major", "minor", "dorian", "phrygian", "lydian", "mixolydian", "locrian", "harmonic minor", "melodic minor", "blues", "pentatonic"];
const MORE = [
  "instruments", "exclude", "ensemble", "metre", "sections", "bars", "loop", "tempo_end_bpm", "key_end", "energy", "dynamics",
  "channels", "sample_rate_hz", "loudness_lufs", "fade_in_s", "fade_out_s",
];
const UPLOADS = ["theme", "continuation"];
const MAX_UPLOAD_BYTES = 20 * 1024 * 1024; // The server refuses more; what is said here saves the way there.

/* ------------------------------------------------------------ the request */

const waveform = new Waveform($("waveform"));
const spectrogram = new Spectrogram($("spectrogram"));
const player = new Player(refresh);
let asked = null; // AbortController of the request that has no sound yet
let coming = null; // AbortController of the track on the stage, until it is whole and its record is shown
let outcome = "idle"; // how the last request ended

// What the form says of a field; nothing for one that the chosen model does not follow.
function said(id) {
  const field = $(id);
  if (!isFollowed(field)) return "";
  return field.type === "file" ? field.files[0] : field.value;
}

async function request(signal) {
  const body = { prompt: said("prompt"), ...allGiven(), seed: Number(said("seed") || 0), purpose: said("purpose") };
  if (said("model")) body.model = said("model");
  for (const name of ["guidance", "temperature", "top_k", "top_p"]) if (said(name)) body[name] = Number(said(name));
  for (const name of UPLOADS) if (said(name)) body[name] = await upload(name, said(name), signal);
  return body;
}

// The id of a file that the server has taken; what is wrong with it is said at its field, whatever the server calls that.
async function upload(name, file, signal) {
  const refused = (message) => new Refused({ title: "The file cannot be used", problems: [{ field: name, message }] });
  if (file.size > MAX_UPLOAD_BYTES) {
    throw refused(`this file has ${(file.size / 1e6).toFixed(0)} MB and at most ${Math.floor(MAX_UPLOAD_BYTES / 1e6)} can be taken; cut it, or send it as MP3 or FLAC`);
  }
  const headers = { "Content-Type": file.type.startsWith("audio/") ? file.type : "application/octet-stream" };
  try {
    const answer = await checked(await fetch(`v1/themes?use=${name}`, { method: "POST", body: file, headers, signal }));
    return (await answer.json()).theme;
  } catch (error) {
    if (!(error instanceof Refused) || error.retryAfter) throw error;
    throw refused(error.problem.problems?.map(({ message }) => message).join("; ") || error.message);
  }
}

// Whole stereo frames of 16-bit PCM, whatever way the network cut them.
async function* frames(stream, channels) {
  const reader = stream.getReader();
  const frameBytes = 2 * channels;
  let rest = new Uint8Array(0);
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const bytes = new Uint8Array(rest.length + value.length);
    bytes.set(rest);
    bytes.set(value, rest.length);
    const count = Math.floor(bytes.length / frameBytes);
    rest = bytes.slice(count * frameBytes);
    if (!count) continue;
    const view = new DataView(bytes.buffer);
    const left = new Float32Array(count), right = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      left[i] = view.getInt16(i * frameBytes, true) / 32767;
      right[i] = channels > 1 ? view.getInt16(i * frameBytes + 2, true) / 32767 : left[i];
    }
    yield [left, right];
  }
}

// What a new request does first. It takes the place of one that waits, and leaves the stage alone.
function ask(what) {
  clearProblems();
  asked?.abort();
  asked = new AbortController();
  $("asked").textContent = what;
  announce(what);
  setState();
  return asked;
}

// The first sound of a request is there: the stage is its own from now on.
function takeStage(mine, track, title) {
  coming?.abort();
  [coming, asked] = [mine, null];
  $("record").hidden = $("figures").hidden = true;
  $("title").textContent = title;
  draw(track);
  player.load(track);
  setState();
  showStage();
}

function finished(mine, error) {
  if (!mine.signal.aborted && error) {
    outcome = "error";
    if (coming === mine) keepWhatCame("The rest did not come");
    showProblem(error);
  }
  if (asked === mine) asked = null;
  if (coming === mine) coming = null;
  if (!asked) player.rest();
  setState();
}

async function make() {
  const mine = ask("Asked; waiting for the first sound.");
  const { signal } = mine;
  const title = $("prompt").value.trim(), askedAt = performance.now();
  try {
    const body = JSON.stringify(await request(signal));
    const headers = { "Content-Type": "application/json" };
    const answer = fetch("v1/tracks/stream?format=pcm", { method: "POST", body, headers, signal });
    player.unlock(); // Making an AudioContext takes tens of milliseconds: the server works meanwhile.
    const response = await checked(await answer);
    const rate = Number(response.headers.get("X-Sample-Rate")), channels = Number(response.headers.get("X-Channels"));
    const track = new Track(Number(response.headers.get("X-Duration-Seconds")), rate);
    let firstSoundMs = null;
    for await (const [left, right] of frames(response.body, channels)) {
      if (signal.aborted) return;
      track.push(left, right);
      if (firstSoundMs === null) {
        firstSoundMs = performance.now() - askedAt;
        takeStage(mine, track, title);
        announce("Playing while the rest is made.");
      }
      player.fill();
      waveform.add();
      spectrogram.add();
      $("progress").textContent = `${clock(track.made / rate)} of ${clock(track.seconds)} made, first sound after ${Math.round(firstSoundMs)} ms`;
      refresh();
    }
    if (firstSoundMs === null) throw new Error("The server sent no sound. Please try again.");
    endTrack();
    const id = response.headers.get("X-Track-Id");
    const summary = await (await checked(await fetch(`v1/tracks/${id}`, { signal }))).json();
    show(summary, firstSoundMs, response.headers.get("X-Cache") === "hit" ? null : performance.now() - askedAt);
    keepInHistory(summary.id, title);
    outcome = "done";
    finished(mine);
  } catch (error) {
    finished(mine, error);
  }
}

// A track from the list: it is in the store, or was withdrawn since.
async function reopen(entry) {
  const mine = ask("Looking for it in the store.");
  const { signal } = mine;
  const askedAt = performance.now();
  player.unlock();
  try {
    const summary = await (await checked(await fetch(`v1/tracks/${entry.dataset.id}`, { signal }))).json();
    const file = await (await checked(await fetch(summary.links.audio, { signal }))).arrayBuffer();
    const track = Track.of(await player.context.decodeAudioData(file));
    if (signal.aborted) return;
    takeStage(mine, track, summary.record.prompt);
    show(summary, performance.now() - askedAt, null);
    outcome = "done";
    finished(mine);
  } catch (error) {
    const gone = { 404: "no longer in the store", 410: "withdrawn" }[error.problem?.status];
    if (gone) dropFromHistory(entry, gone);
    finished(mine, error);
  }
}

// Ends what was asked for last; what is heard or was heard stays.
function stop() {
  if (asked) {
    asked.abort();
    asked = null;
    player.rest();
    announce("Given up.");
  } else if (coming) {
    coming.abort();
    coming = null;
    outcome = "idle";
    player.pause();
    keepWhatCame("Stopped");
    announce($("progress").textContent);
  }
  setState();
}

function keepWhatCame(why) {
  const promised = player.track.seconds;
  if (player.track.whole) return; // All of the audio is here: only the record is missing.
  endTrack();
  $("progress").textContent = `${why}: ${clock(player.track.seconds)} of ${clock(promised)} were made and can be played.`;
}

function endTrack() {
  player.end();
  // The promised length may be a sample off, and a track that was broken off is shorter.
  if (waveform.samples === player.track.samples) spectrogram.add();
  else draw(player.track);
  refresh();
}

/* ----------------------------------------------------------------- models */

const MODELS_AGAIN_MS = 3000;
let models = [];
let purposeMoved = false; // by us, not by who fills in the form

async function askForModels() {
  try {
    ({ models } = await (await checked(await fetch("v1/models"))).json());
  } catch {
    $("models").textContent = "the models are still loading";
    setTimeout(() => whenSeen(askForModels), MODELS_AGAIN_MS);
    return;
  }
  $("models").textContent = models.map((m) => `${m.name} · ${m.sample_rate_hz / 1000} kHz · weights ${m.weights_licence}`).join("   ");
  options($("model"), models.map((model) => model.name));
  $("model-field").hidden = models.length < 2;
  follow();
}

// Now, or when the page is looked at again: nobody needs a hidden page to ask.
function whenSeen(act) {
  if (document.hidden) document.addEventListener("visibilitychange", () => whenSeen(act), { once: true });
  else act();
}

// Offers what the chosen model can do, and no purpose that its licence forbids.
function follow() {
  const model = models.find(({ name }) => name === $("model").value);
  for (const field of document.querySelectorAll("[data-control]")) field.hidden = !model.controls.includes(field.dataset.control);
  $("drawing").hidden = !$("drawing").querySelector("[data-control]:not([hidden])");
  $("duration_s").max = model.max_duration_s;
  const commercial = $("purpose").querySelector("[value=commercial]");
  if (model.commercial_use && purposeMoved) $("purpose").value = "commercial";
  purposeMoved = !model.commercial_use && (purposeMoved || $("purpose").value === "commercial");
  if (purposeMoved) $("purpose").value = "research";
  commercial.disabled = !model.commercial_use;
  $("purpose-help").textContent = model.commercial_use
    ? ""
    : `The weights of ${model.name} are under ${model.weights_licence}: what they make is not for commercial use.`;
  countMore();
  readNow();
}

// What is set where a closed part of the form hides it.
function countMore() {
  const count = MORE.filter((name) => given(name) !== undefined).length;
  put("more-set", count ? `${count} set` : "");
}

/* ---------------------------------------------------------------- showing */

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const money = (usd) => (usd >= 0.01 ? usd.toFixed(2) : usd.toFixed(7));
const level = (value) => value.toFixed(1).replace("-", "−");

function figure(id, value, unit) {
  const small = document.createElement("small");
  small.textContent = unit;
  $(id).replaceChildren(value, " ", small);
}

// What is known of the track on the stage; `totalMs` is null for one that was in the store.
function show(summary, firstSoundMs, totalMs) {
  const { record, links, intent } = summary;
  figure("f-first", String(Math.round(firstSoundMs)), "ms");
  figure("f-cost", money(record.cost_usd), "USD");
  figure("f-loudness", level(record.measured_loudness_lufs), "LUFS");
  figure("f-peak", level(record.measured_true_peak_dbtp), "dBTP");
  $("figures").hidden = false;
  $("progress").textContent = totalMs === null
    ? "This track was in the store: nothing was rendered."
    : `Made, checked and stored in ${(totalMs / 1000).toFixed(1)} s.`;
  const choices = record.choices || {};
  const facts = {
    "Track": [record.track_id],
    "Model": `${record.model}, weights ${record.weights_licence}`,
    "Style": choices.style || record.style,
    "Mood": choices.mood === "none" ? null : choices.mood || record.mood,
    "Key": choices.key || record.key,
    "Tempo": choices.tempo_bpm || record.tempo_bpm ? `${choices.tempo_bpm || record.tempo_bpm} bpm` : null,
    "Form": choices.form,
    "Instruments": choices.instruments,
    "Made on": `${record.node_type}, ${record.market}, ${record.pool} pool`,
    "Device time": `${record.device_seconds.toFixed(2)} s at ${record.price_usd_per_device_hour} USD an hour`,
    "Audio, SHA-256": [record.audio_sha256],
    "Licence for you": record.commercial_use ? "commercial use allowed" : "no commercial use",
  };
  $("facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value).map(([name, value]) => {
    const row = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    if (Array.isArray(value)) { const code = document.createElement("code"); code.textContent = value[0]; dd.append(code); } else dd.textContent = value;
    row.append(dt, dd);
    return row;
  }));
  $("checks").replaceChildren(...record.findings.map((finding) => {
    const item = document.createElement("li");
    item.textContent = finding.name;
    item.title = `measured ${finding.measured} ${finding.unit}`;
    item.classList.toggle("failed", !finding.passed);
    return item;
  }));
  const named = [["audio", `Audio (${record.format.toUpperCase()}, ${(record.audio_bytes / 1e6).toFixed(1)} MB)`], ["midi", "MIDI"], ["provenance", "Signed record"]];
  $("links").replaceChildren(...named.filter(([name]) => links[name]).map(([name, text]) => {
    const link = document.createElement("a");
    link.href = links[name];
    link.download = "";
    link.textContent = text;
    return link;
  }));
  const missing = intent ? unfollowed(intent) : []; // Not noted of the tracks of earlier releases.
  putLines($("unfollowed"), missing);
  $("not-followed").hidden = !missing.length;
  $("record").hidden = false;
  announce($("progress").textContent);
}

function clearProblems() {
  $("notice").hidden = true;
  for (const place of document.querySelectorAll(".error")) unmark(place);
}

function showProblem(error) {
  const { lines } = markFields(error);
  if (error instanceof TypeError) lines.push("The connection broke off before the track was whole. Is the server still there?");
  else if (!(error instanceof Refused)) lines.push(error.message);
  $("notice").textContent = lines.join(" ");
  $("notice").hidden = false;
  $("notice").scrollIntoView({ block: "nearest" });
}

// For those who hear the page: one sentence at each turn, none for every block of audio.
function announce(text) { $("announced").textContent = text; }

function setState() {
  document.body.dataset.state = asked ? "waiting" : coming ? "streaming" : outcome;
  if (!asked) $("asked").textContent = "";
  // Not `disabled` and not hidden, or whoever has just pressed it would lose the focus; the style hides it after that.
  $("stop").setAttribute("aria-disabled", String(!asked && !coming));
}

// Writes only what has changed: a live page must not be laid out again at every frame for nothing.
function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }
function attribute(id, name, value) { if ($(id).getAttribute(name) !== value) $(id).setAttribute(name, value); }

let frame = null;

// Brings the stage up to date, and goes on with every frame for as long as something plays.
function refresh() {
  const { track, playing, position } = player;
  document.body.toggleAttribute("data-playing", playing);
  attribute("toggle", "aria-label", playing ? "Pause" : "Play");
  if (!track) return;
  $("toggle").disabled = false;
  const length = track.seconds;
  put("position", clock(position));
  put("length", clock(length));
  waveform.draw(position / length);
  for (const id of ["playhead", "playhead2"]) {
    $(id).hidden = false;
    $(id).style.transform = `translateX(${(position / length) * $("seek").clientWidth}px)`;
  }
  attribute("seek", "aria-disabled", "false");
  attribute("seek", "aria-valuemax", length.toFixed(0));
  attribute("seek", "aria-valuenow", position.toFixed(0));
  attribute("seek", "aria-valuetext", `${clock(position)} of ${clock(length)}`);
  if (playing) frame ??= requestAnimationFrame(() => { frame = null; refresh(); });
}

function draw(track) {
  waveform.begin(track);
  spectrogram.begin(track);
}

function drawAnew() {
  if (!player.track) return;
  draw(player.track);
  refresh();
}

// Where the page has one column, the stage lies below the form.
function showStage() {
  const seen = (id) => { const box = $(id).getBoundingClientRect(); return box.top >= 0 && box.bottom <= window.innerHeight; };
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!seen("toggle") && !seen("seek")) $("stage").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}

/* ---------------------------------------------------------------- history */

function historyEntry({ id, title }) {
  const item = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  button.dataset.id = id;
  button.textContent = title;
  button.addEventListener("click", () => { if (button.getAttribute("aria-disabled") !== "true") reopen(button); });
  item.append(button);
  return item;
}

function showHistory() {
  $("earlier-list").replaceChildren(...remembered().map(historyEntry));
  $("earlier").hidden = !$("earlier-list").childElementCount;
}

// Entries are added and taken away one by one: a list that is made anew would take the focus away.
function keepInHistory(id, title) {
  remember(id, title);
  const list = $("earlier-list"), same = list.querySelector(`[data-id="${CSS.escape(id)}"]`);
  if (!same) list.prepend(historyEntry({ id, title }));
  else if (same !== document.activeElement) list.prepend(same.parentElement);
  while (list.childElementCount > LIMIT) list.lastElementChild.remove();
  $("earlier").hidden = false;
}

function dropFromHistory(entry, why) {
  forget(entry.dataset.id);
  entry.setAttribute("aria-disabled", "true");
  entry.textContent += ` (${why})`;
}

/* ----------------------------------------------------------------- wiring */

function options(select, values) {
  select.append(...values.map((value) => new Option(value, value)));
}

function seekTo(seconds) { if (player.track) { player.seek(seconds); refresh(); } }

$("form").addEventListener("input", countMore);
$("form").addEventListener("submit", (event) => { event.preventDefault(); make(); });
$("stop").addEventListener("click", stop);
$("dice").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 1e6); make(); });
$("toggle").addEventListener("click", () => { if (player.playing) player.pause(); else player.play(); });
$("seek").addEventListener("click", (event) => {
  if (!player.track) return;
  const box = $("seek").getBoundingClientRect();
  seekTo(((event.clientX - box.left) / box.width) * player.track.seconds);
  if (!player.finished) player.play();
});
// The keys of a slider as the ARIA practices have them; playing goes on playing, and a pause stays one.
$("seek").addEventListener("keydown", (event) => {
  if (!player.track || event.altKey || event.ctrlKey || event.metaKey) return;
  const { position, track: { seconds } } = player;
  const target = {
    ArrowRight: position + 5, ArrowUp: position + 5, ArrowLeft: position - 5, ArrowDown: position - 5,
    PageUp: position + seconds / 10, PageDown: position - seconds / 10, Home: 0, End: seconds,
  }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  seekTo(target);
});
for (const [name, prompt] of PRESETS) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.title = prompt;
  button.addEventListener("click", () => { $("prompt").value = prompt; announce(`Filled in: ${prompt}`); readNow(); });
  $("presets").append(button);
}
for (const name of UPLOADS) {
  const file = $(name), remove = $(`${name}-remove`);
  const follow = () => {
    remove.hidden = !file.files.length;
    $(`${name}-error`).textContent = "";
    file.removeAttribute("aria-invalid");
  };
  file.addEventListener("change", follow);
  remove.addEventListener("click", () => { file.value = ""; file.focus(); follow(); });
}
$("forget").addEventListener("click", () => {
  forgetAll();
  $("make").focus({ preventScroll: true }); // The list goes away, and the button with it.
  showHistory();
});
$("model").addEventListener("change", follow);
$("purpose").addEventListener("change", () => { purposeMoved = false; });
let resized = 0;
window.addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawAnew, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAnew);
for (const name of ["tonic", "tonic_end"]) options($(name), TONICS);
for (const name of ["mode", "mode_end"]) options($(name), MODES);
showHistory();
fetch("v1/styles").then(checked).then((r) => r.json()).then(({ styles, moods }) => {
  options($("style"), styles);
  options($("mood"), moods);
}).catch(showProblem);
askForModels();
