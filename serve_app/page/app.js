// The page: asks for a track as a stream of raw PCM, plays and draws it while it comes, then shows its record.
// No build step and no library. The one subtle thing is time: audio is scheduled on the AudioContext's clock, drawing
// follows that clock, and nothing waits for the network twice.

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
const MODES = ["major", "minor", "dorian", "phrygian", "lydian", "mixolydian"];
const LEAD_S = 0.06; // Audio is scheduled this far ahead of the clock: enough for one late event-loop turn.

/* ---------------------------------------------------------------- drawing */

class Waveform {
  constructor(canvas) { this.canvas = canvas; this.context = canvas.getContext("2d"); }

  begin(totalSamples) {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    this.total = totalSamples;
    this.columns = this.canvas.width;
    this.low = new Float32Array(this.columns);
    this.high = new Float32Array(this.columns);
    this.made = 0;
    this.draw(0);
  }

  push(left, right) {
    for (let i = 0; i < left.length; i++) {
      const column = Math.min(this.columns - 1, Math.floor(((this.made + i) / this.total) * this.columns));
      const sample = (left[i] + right[i]) / 2;
      if (sample < this.low[column]) this.low[column] = sample;
      if (sample > this.high[column]) this.high[column] = sample;
    }
    this.made += left.length;
  }

  draw(playedFraction) {
    const { context, columns } = this;
    const height = this.canvas.height, middle = height / 2;
    const style = getComputedStyle(document.documentElement);
    const wave = style.getPropertyValue("--wave"), rest = style.getPropertyValue("--wave-rest");
    const made = Math.min(columns, Math.ceil((this.made / this.total) * columns));
    const played = playedFraction * columns;
    context.clearRect(0, 0, columns, height);
    context.fillStyle = rest;
    context.fillRect(0, Math.floor(middle), columns, 1);
    for (let x = 0; x < made; x++) {
      context.fillStyle = x <= played ? wave : rest;
      const top = middle - this.high[x] * middle * 0.96;
      context.fillRect(x, top, 1, Math.max(1, (this.high[x] - this.low[x]) * middle * 0.96));
    }
  }
}

// In-place radix-2 FFT (Cooley–Tukey) of a fixed size.
class Fft {
  constructor(size) {
    this.size = size;
    this.cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sin = Float64Array.from({ length: size / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / size));
    const bits = Math.log2(size);
    this.reversed = Uint32Array.from({ length: size }, (_, i) => {
      let mirrored = 0;
      for (let bit = 0; bit < bits; bit++) if (i & (1 << bit)) mirrored |= 1 << (bits - 1 - bit);
      return mirrored;
    });
  }

  transform(re, im) {
    const { size, cos, sin, reversed } = this;
    for (let i = 0; i < size; i++) {
      const j = reversed[i];
      if (j > i) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
    }
    for (let half = 1; half < size; half *= 2) {
      const stride = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let k = 0; k < half; k++) {
          const a = start + k, b = a + half, c = cos[k * stride], s = sin[k * stride];
          const x = re[b] * c + im[b] * s, y = im[b] * c - re[b] * s;
          re[b] = re[a] - x; im[b] = im[a] - y;
          re[a] += x; im[a] += y;
        }
      }
    }
  }
}

// Black through violet, red and amber to pale yellow; perceived lightness rises steadily.
const HEAT = [[0, 11, 10, 13], [0.2, 46, 18, 78], [0.42, 122, 28, 98], [0.62, 205, 62, 70], [0.82, 246, 152, 62], [1, 252, 246, 190]];
function heat(value) {
  let i = 1;
  while (i < HEAT.length - 1 && value > HEAT[i][0]) i++;
  const [from, to] = [HEAT[i - 1], HEAT[i]];
  const t = Math.min(1, Math.max(0, (value - from[0]) / (to[0] - from[0])));
  return [1, 2, 3].map((c) => from[c] + t * (to[c] - from[c]));
}

class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.size = 2048;
    this.fft = new Fft(this.size);
    this.window = Float64Array.from({ length: this.size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.size));
    this.colours = Array.from({ length: 256 }, (_, i) => heat(i / 255));
  }

  begin(totalSamples, rate) {
    this.canvas.width = Math.max(1, Math.min(900, Math.round(this.canvas.clientWidth)));
    this.canvas.height = Math.round(this.canvas.clientHeight);
    this.hop = totalSamples / this.canvas.width;
    this.column = 0;
    this.kept = new Float32Array(totalSamples + this.size);
    this.made = 0;
    this.context.fillStyle = "#0b0a0d";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const rows = this.canvas.height, top = Math.min(16000, rate / 2.1);
    this.bins = Float64Array.from({ length: rows }, (_, y) => (40 * (top / 40) ** (1 - y / (rows - 1)) * this.size) / rate);
  }

  push(left, right) {
    for (let i = 0; i < left.length && this.made < this.kept.length; i++) this.kept[this.made++] = (left[i] + right[i]) / 2;
    while (this.column < this.canvas.width && this.column * this.hop + this.size / 2 <= this.made) this.drawColumn(this.column++);
  }

  finish() { while (this.column < this.canvas.width) this.drawColumn(this.column++); }

  drawColumn(x) {
    const re = new Float64Array(this.size), im = new Float64Array(this.size);
    const start = Math.round(x * this.hop - this.size / 2);
    for (let i = 0; i < this.size; i++) re[i] = (this.kept[start + i] || 0) * this.window[i];
    this.fft.transform(re, im);
    const rows = this.canvas.height, image = this.context.createImageData(1, rows);
    for (let y = 0; y < rows; y++) {
      const bin = this.bins[y], low = Math.floor(bin), t = bin - low;
      const at = (k) => re[k] * re[k] + im[k] * im[k];
      const decibels = 10 * Math.log10(((1 - t) * at(low) + t * at(low + 1)) / (this.size * this.size / 16) + 1e-12);
      const colour = this.colours[Math.max(0, Math.min(255, Math.round(((decibels + 88) / 78) * 255)))];
      image.data.set([colour[0], colour[1], colour[2], 255], y * 4);
    }
    this.context.putImageData(image, x, 0);
  }
}

/* ---------------------------------------------------------------- playing */

class Player {
  constructor() { this.context = null; this.sources = new Set(); this.reset(); }

  reset() {
    for (const source of this.sources) { source.onended = null; source.stop(); }
    this.sources.clear();
    this.left = this.right = new Float32Array(0);
    this.made = this.total = 0;
    this.startedAt = null; // AudioContext time of sample 0
    this.ended = false; // whether all of the audio has come
    this.paused = false;
  }

  // Must be called soon after a click: browsers let sound begin only then.
  unlock() {
    this.context ??= new AudioContext();
    this.context.resume();
  }

  begin(totalSamples, rate) {
    this.rate = rate;
    this.total = totalSamples;
    this.left = new Float32Array(totalSamples);
    this.right = new Float32Array(totalSamples);
  }

  push(left, right) {
    left = left.subarray(0, this.total - this.made);
    right = right.subarray(0, this.total - this.made);
    if (!left.length) return;
    this.left.set(left, this.made);
    this.right.set(right, this.made);
    const now = this.context.currentTime + LEAD_S;
    this.startedAt ??= now;
    // A stream that ran dry goes on late rather than with a hole that overlaps.
    this.startedAt = Math.max(this.startedAt, now - this.made / this.rate);
    this.schedule(left, right, this.startedAt + this.made / this.rate);
    this.made += left.length;
  }

  schedule(left, right, at) {
    const buffer = this.context.createBuffer(2, left.length, this.rate);
    buffer.copyToChannel(left, 0);
    buffer.copyToChannel(right, 1);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    source.onended = () => this.sources.delete(source);
    source.start(at);
    this.sources.add(source);
  }

  get position() {
    if (this.startedAt === null) return 0;
    return Math.min(this.made / this.rate, Math.max(0, this.context.currentTime - this.startedAt));
  }

  get playing() { return this.startedAt !== null && !this.paused && this.position < this.total / this.rate; }

  seek(seconds) {
    if (!this.made) return;
    const from = Math.max(0, Math.min(this.made - 1, Math.round(seconds * this.rate)));
    for (const source of this.sources) { source.onended = null; source.stop(); }
    this.sources.clear();
    const at = this.context.currentTime + LEAD_S;
    this.startedAt = at - from / this.rate;
    this.schedule(this.left.subarray(from, this.made), this.right.subarray(from, this.made), at);
    this.resume();
  }

  pause() { this.paused = true; this.context.suspend(); }
  resume() { this.paused = false; this.context.resume(); }
}

/* ------------------------------------------------------------ the request */

const player = new Player();
const waveform = new Waveform($("waveform"));
const spectrogram = new Spectrogram($("spectrogram"));
let running = null; // AbortController of the present stream

class Refused extends Error {
  constructor(problem, retryAfter) { super(problem.detail || problem.title || "the request was refused"); this.problem = problem; this.retryAfter = retryAfter; }
}

async function checked(response) {
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ title: `the server answered ${response.status}` }));
  throw new Refused(problem, response.headers.get("Retry-After"));
}

// What the form says of a field; nothing for one that the chosen model does not follow.
function said(id) {
  const field = $(id);
  if (field.closest("[data-control]")?.hidden) return "";
  return field.type === "file" ? field.files[0] : field.value;
}

async function request() {
  const body = { prompt: said("prompt"), seed: Number(said("seed") || 0), format: said("format"), purpose: said("purpose") };
  for (const name of ["style", "mood", "model"]) if (said(name)) body[name] = said(name);
  for (const name of ["tempo_bpm", "duration_s", "guidance", "temperature", "top_k", "top_p"]) if (said(name)) body[name] = Number(said(name));
  if (said("tonic")) body.key = `${said("tonic")} ${said("mode")}`;
  for (const name of ["theme", "continuation"]) {
    const file = said(name);
    if (!file) continue;
    const upload = await checked(await fetch("v1/themes", { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } }));
    body[name] = (await upload.json()).theme;
  }
  return body;
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

async function make() {
  clearProblems();
  running?.abort();
  const mine = (running = new AbortController());
  player.reset();
  setState("streaming");
  $("record").hidden = $("figures").hidden = true;
  $("title").textContent = $("prompt").value.trim();
  $("progress").textContent = "Asked; waiting for the first sound.";
  const askedAt = performance.now();
  try {
    const body = JSON.stringify(await request());
    const headers = { "Content-Type": "application/json" };
    const asked = fetch("v1/tracks/stream?format=pcm", { method: "POST", body, headers, signal: mine.signal });
    player.unlock(); // Making an AudioContext takes tens of milliseconds: the server works meanwhile.
    const response = await checked(await asked);
    const rate = Number(response.headers.get("X-Sample-Rate")), channels = Number(response.headers.get("X-Channels"));
    const total = Math.round(Number(response.headers.get("X-Duration-Seconds")) * rate);
    player.begin(total, rate);
    waveform.begin(total);
    spectrogram.begin(total, rate);
    let firstSoundMs = null;
    for await (const [left, right] of frames(response.body, channels)) {
      player.push(left, right);
      firstSoundMs ??= performance.now() - askedAt;
      waveform.push(left, right);
      spectrogram.push(left, right);
      $("progress").textContent = `${clock(player.made / rate)} of ${clock(total / rate)} made, first sound after ${Math.round(firstSoundMs)} ms`;
    }
    player.ended = true;
    spectrogram.finish();
    const id = response.headers.get("X-Track-Id");
    const track = await (await checked(await fetch(`v1/tracks/${id}`, { signal: mine.signal }))).json();
    show(track, firstSoundMs, performance.now() - askedAt, response.headers.get("X-Cache") === "hit");
    setState("done");
  } catch (error) {
    if (mine.signal.aborted) return;
    setState("error");
    $("progress").textContent = "";
    showProblem(error);
  }
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
    setTimeout(askForModels, MODELS_AGAIN_MS);
    return;
  }
  $("models").textContent = models.map((m) => `${m.name} · ${m.sample_rate_hz / 1000} kHz · weights ${m.weights_licence}`).join("   ");
  options($("model"), models.map((model) => model.name));
  $("model-field").hidden = models.length < 2;
  follow();
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

function show(track, firstSoundMs, totalMs, cached) {
  const { record, links } = track;
  figure("f-first", String(Math.round(firstSoundMs)), "ms");
  figure("f-cost", money(record.cost_usd), "USD");
  figure("f-loudness", level(record.measured_loudness_lufs), "LUFS");
  figure("f-peak", level(record.measured_true_peak_dbtp), "dBTP");
  $("figures").hidden = false;
  $("progress").textContent = cached
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
  $("record").hidden = false;
}

function clearProblems() {
  $("notice").hidden = true;
  for (const error of document.querySelectorAll(".error")) error.textContent = "";
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

function showProblem(error) {
  const lines = [];
  for (const { field, message } of error.problem?.problems ?? []) {
    const place = $(`${field}-error`);
    if (!place) { lines.push(`${field}: ${message}`); continue; }
    place.textContent = message;
    $(field === "key" ? "tonic" : field)?.setAttribute("aria-invalid", "true");
  }
  const retry = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  if (error instanceof Refused) {
    if (!error.problem.problems?.length) lines.push(`${error.problem.title ?? "Refused"}: ${error.message}.${retry}`);
  } else if (error instanceof TypeError) lines.push("The connection broke off before the track was whole. Is the server still there?");
  else lines.push(error.message);
  if (!lines.length) lines.push("Please look at the marked field.");
  $("notice").textContent = lines.join(" ");
  $("notice").hidden = false;
}

function setState(state) {
  document.body.dataset.state = state;
  $("make").disabled = state === "streaming";
  $("stop").hidden = state !== "streaming";
}

function tick() {
  const position = player.position, length = player.total ? player.total / player.rate : 0;
  $("position").textContent = clock(position);
  $("length").textContent = clock(length);
  $("toggle").disabled = !player.made;
  document.body.toggleAttribute("data-playing", player.playing);
  $("toggle").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  if (length) {
    waveform.draw(position / length);
    for (const id of ["playhead", "playhead2"]) {
      $(id).hidden = false;
      $(id).style.transform = `translateX(${(position / length) * $("seek").clientWidth}px)`;
    }
    $("seek").setAttribute("aria-valuemax", length.toFixed(1));
    $("seek").setAttribute("aria-valuenow", position.toFixed(1));
    $("seek").setAttribute("aria-valuetext", clock(position));
  }
  requestAnimationFrame(tick);
}

/* ----------------------------------------------------------------- wiring */

function options(select, values) {
  select.append(...values.map((value) => new Option(value, value)));
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); make(); });
$("stop").addEventListener("click", () => {
  running?.abort();
  player.reset();
  setState("idle");
  $("progress").textContent = "Stopped; the server has given the track up.";
});
$("dice").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 1e6); make(); });
$("toggle").addEventListener("click", () => {
  if (player.playing) player.pause();
  else if (player.paused) player.resume();
  else player.seek(0);
});
$("seek").addEventListener("click", (event) => {
  const box = $("seek").getBoundingClientRect();
  if (player.total) player.seek(((event.clientX - box.left) / box.width) * (player.total / player.rate));
});
$("seek").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 5, ArrowLeft: -5, Home: -Infinity }[event.key];
  if (step === undefined || !player.total) return;
  event.preventDefault();
  player.seek(Math.max(0, player.position + step));
});
for (const [name, prompt] of PRESETS) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.title = prompt;
  button.addEventListener("click", () => { $("prompt").value = prompt; $("prompt").focus(); });
  $("presets").append(button);
}
$("model").addEventListener("change", follow);
$("purpose").addEventListener("change", () => { purposeMoved = false; });
options($("tonic"), TONICS);
options($("mode"), MODES);
fetch("v1/styles").then(checked).then((r) => r.json()).then(({ styles, moods }) => {
  options($("style"), styles);
  options($("mood"), moods);
}).catch(showProblem);
askForModels();
tick();
