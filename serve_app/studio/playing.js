// A track's samples as they come, and the player that schedules them on the clock of an AudioContext. What is scheduled
// is a few slices ahead and no more: the next one follows when one has ended, which also happens in a hidden tab.

const LEAD_S = 0.06; // Audio is scheduled this far ahead of the clock: enough for one late event-loop turn.
const SLICE_S = 5;
const AHEAD_S = 15;

export class Track {
  constructor(seconds, rate) {
    this.rate = rate;
    this.promised = Math.ceil(seconds * rate);
    this.left = new Float32Array(this.promised);
    this.right = new Float32Array(this.promised);
    this.made = 0;
    this.whole = false; // whether nothing more will come
  }

  static of(buffer) {
    const track = new Track(buffer.duration, buffer.sampleRate);
    track.push(buffer.getChannelData(0), buffer.getChannelData(Math.min(1, buffer.numberOfChannels - 1)));
    track.whole = true;
    return track;
  }

  push(left, right) {
    const made = this.made + left.length;
    if (made > this.left.length) {
      for (const side of ["left", "right"]) {
        const longer = new Float32Array(made);
        longer.set(this[side].subarray(0, this.made));
        this[side] = longer;
      }
    }
    this.left.set(left, this.made);
    this.right.set(right, this.made);
    this.made = made;
  }

  // Of a track that is whole, what came counts and not what was promised.
  get samples() { return this.whole ? this.made : Math.max(this.made, this.promised); }
  get seconds() { return this.samples / this.rate; }
}

export class Player {
  constructor(onchange) {
    this.onchange = onchange;
    this.context = null;
    this.sources = new Set();
    this.track = null;
    this.paused = true;
    this.finished = false;
  }

  // Must be called soon after a click: browsers let sound begin only then.
  unlock() {
    if (this.context) return;
    this.context = new AudioContext();
    this.context.resume();
  }

  // A context that runs costs the processor something even in silence, so it never runs on for nothing.
  rest() { if (this.paused) this.context?.suspend(); }

  // Plays another track from its beginning.
  load(track) {
    this.track = track;
    this.cue(0);
    this.play();
  }

  cue(sample) {
    for (const source of this.sources) { source.onended = null; source.stop(); }
    this.sources.clear();
    this.from = this.scheduled = sample;
    this.origin = this.context.currentTime + LEAD_S - sample / this.track.rate; // the clock at sample 0
    this.finished = false;
    this.fill();
    this.finishIfHeard();
  }

  // To be called when samples have come, too.
  fill() {
    const { track, context } = this;
    while (this.scheduled < track.made && this.scheduled / track.rate < this.position + AHEAD_S) {
      const end = Math.min(track.made, this.scheduled + Math.round(SLICE_S * track.rate));
      // A stream that ran dry goes on late rather than with a hole that overlaps.
      if (this.origin + this.scheduled / track.rate < context.currentTime) {
        this.origin = context.currentTime + LEAD_S - this.scheduled / track.rate;
      }
      const buffer = context.createBuffer(2, end - this.scheduled, track.rate);
      buffer.copyToChannel(track.left.subarray(this.scheduled, end), 0);
      buffer.copyToChannel(track.right.subarray(this.scheduled, end), 1);
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(context.destination);
      source.onended = () => { this.sources.delete(source); this.fill(); this.finishIfHeard(); };
      source.start(this.origin + this.scheduled / track.rate);
      this.sources.add(source);
      this.scheduled = end;
    }
  }

  // Nothing more will come.
  end() {
    this.track.whole = true;
    this.finishIfHeard();
  }

  finishIfHeard() {
    if (!this.track.whole || this.sources.size || this.scheduled < this.track.made) return;
    this.finished = true;
    this.pause();
  }

  get position() {
    if (!this.track) return 0;
    const { rate, made } = this.track;
    if (this.finished) return made / rate;
    return Math.min(made / rate, Math.max(this.from / rate, this.context.currentTime - this.origin));
  }

  get playing() { return !this.paused; }

  seek(seconds) { this.cue(Math.max(0, Math.min(this.track.made, Math.round(seconds * this.track.rate)))); }

  play() {
    if (this.finished) this.cue(0);
    this.paused = false;
    this.context.resume();
    this.onchange();
  }

  pause() {
    this.paused = true;
    this.rest();
    this.onchange();
  }
}
