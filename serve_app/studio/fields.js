// The fields that words can say as well: how each is read from the form, filled in, and told in words.

const $ = (id) => document.getElementById(id);

const parts = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
const figure = (value) => String(Number(value.toFixed(2))).replace("-", "−");

// "intro 8 s", "verse 16 bars", "outro". What is none of these goes as a name, for the service to refuse.
const SECTION = /^([^\d,]*[^\d,\s])\s+(\d+(?:\.\d+)?)\s*(s|sec|seconds?|bars?)$/i;

function section(text) {
  const [, name, length, unit] = SECTION.exec(text) ?? [];
  if (!name) return { name: text };
  return /^bar/i.test(unit) ? { name, bars: Number(length) } : { name, duration_s: Number(length) };
}

function sectionText({ name, bars, duration_s }) {
  if (bars) return `${name} ${bars} bars`;
  return duration_s ? `${name} ${duration_s} s` : name;
}

const TEXT = { read: (text) => text, write: (value) => [value] };
const FIGURE = { read: Number, write: (value) => [String(value)] };
const CHOICE = { read: JSON.parse, write: (value) => [String(value)] };
const NAMES = { read: parts, write: (names) => [names.join(", ")], isList: true };
const SECTIONS = { read: (text) => parts(text).map(section), write: (sections) => [sections.map(sectionText).join(", ")] };
const KEY = {
  read: (tonic, mode) => `${tonic} ${mode}`,
  write: (key) => [key.slice(0, key.indexOf(" ")), key.slice(key.indexOf(" ") + 1)],
};

// In the order in which they are told. `inputs`, where they are not called like the field.
export const FIELDS = {
  style: { ...TEXT, told: (style) => `style ${style}` },
  mood: { ...TEXT, told: (mood) => `mood ${mood}` },
  tempo_bpm: { ...FIGURE, told: (bpm) => `tempo ${figure(bpm)} bpm` },
  tempo_end_bpm: { ...FIGURE, told: (bpm) => `tempo at the end ${figure(bpm)} bpm` },
  metre: { ...TEXT, told: (metre) => `metre ${metre}` },
  key: { ...KEY, inputs: ["tonic", "mode"], told: (key) => `key ${key}` },
  key_end: { ...KEY, inputs: ["tonic_end", "mode_end"], told: (key) => `key at the end ${key}` },
  duration_s: { ...FIGURE, told: (seconds) => `length ${figure(seconds)} s` },
  bars: { ...FIGURE, told: (bars) => (bars === 1 ? "1 bar" : `${bars} bars`) },
  loop: { ...CHOICE, told: (loop) => (loop ? "a loop" : "no loop") },
  sections: { ...SECTIONS, told: (sections) => `sections ${sections.map(sectionText).join(", ")}` },
  ensemble: { ...TEXT, told: (ensemble) => (ensemble === "only" ? "nothing but its instruments" : ensemble) },
  instruments: { ...NAMES, told: (names) => `with ${names.join(", ")}` },
  exclude: { ...NAMES, told: (names) => `without ${names.join(", ")}` },
  energy: { ...TEXT, told: (energy) => `${energy} energy` },
  dynamics: { ...TEXT, told: (dynamics) => `dynamics ${dynamics}` },
  fade_in_s: { ...FIGURE, told: (seconds) => `fade in ${figure(seconds)} s` },
  fade_out_s: { ...FIGURE, told: (seconds) => `fade out ${figure(seconds)} s` },
  loudness_lufs: { ...FIGURE, told: (lufs) => `loudness ${figure(lufs)} LUFS` },
  channels: { ...CHOICE, told: (channels) => (channels === 1 ? "mono" : "stereo") },
  format: { ...TEXT, told: (format) => format.toUpperCase() },
  sample_rate_hz: { ...FIGURE, told: (rate) => `sampling rate ${rate} Hz` },
};

const inputs = (name) => (FIELDS[name].inputs ?? [name]).map($);

// Whether the chosen model follows what this input says.
export const isFollowed = (input) => !input.closest("[data-control]")?.hidden;

// The field's value; undefined: the words say, or the model does not follow it.
export function given(name) {
  const texts = inputs(name).map(({ value }) => value.trim());
  return texts[0] && isFollowed(inputs(name)[0]) ? FIELDS[name].read(...texts) : undefined;
}

export function allGiven() {
  return Object.fromEntries(Object.keys(FIELDS).map((name) => [name, given(name)]).filter(([, value]) => value !== undefined));
}

// Whether the form says this value; of a list, at least these names.
export function isGiven(name, value) {
  const { isList, read, write } = FIELDS[name], said = given(name);
  if (said === undefined) return false;
  return isList ? value.every((each) => said.includes(each)) : JSON.stringify(said) === JSON.stringify(read(...write(value)));
}

export function canGive(name, value) {
  const texts = FIELDS[name].write(value);
  return inputs(name).every((input, i) => isFollowed(input) && (!input.options || [...input.options].some((option) => option.value === texts[i])));
}

// Sets the field; to a list, what it lacks is added.
export function give(name, value) {
  const texts = FIELDS[name].write(FIELDS[name].isList ? [...new Set([...(given(name) ?? []), ...value])] : value);
  inputs(name).forEach((input, i) => { input.value = texts[i]; });
}

// Leaves the field to the words again; of a list, only these names.
export function takeBack(name, value) {
  const rest = FIELDS[name].isList ? given(name).filter((each) => !value.includes(each)) : [];
  inputs(name)[0].value = rest.join(", ");
}
