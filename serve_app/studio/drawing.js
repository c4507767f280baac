// Waveform and spectrogram of a track, drawn while its samples come. Both are drawn anew after a change of size.

export class Waveform {
  constructor(canvas) { this.canvas = canvas; this.context = canvas.getContext("2d"); this.track = null; }

  begin(track) {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    const style = getComputedStyle(document.documentElement);
    this.wave = style.getPropertyValue("--wave");
    this.rest = style.getPropertyValue("--wave-rest");
    this.track = track;
    this.samples = track.samples;
    this.columns = this.canvas.width;
    this.low = new Float32Array(this.columns);
    this.high = new Float32Array(this.columns);
    this.seen = 0;
    this.drawn = this.played = 0;
    this.context.clearRect(0, 0, this.columns, this.canvas.height);
    this.context.fillStyle = this.rest;
    this.context.fillRect(0, Math.floor(this.canvas.height / 2), this.columns, 1);
    this.add();
  }

  // Takes the samples that have come since.
  add() {
    const { left, right, made } = this.track;
    for (; this.seen < made; this.seen++) {
      const column = Math.min(this.columns - 1, Math.floor((this.seen / this.samples) * this.columns));
      const sample = (left[this.seen] + right[this.seen]) / 2;
      if (sample < this.low[column]) this.low[column] = sample;
      if (sample > this.high[column]) this.high[column] = sample;
    }
  }

  // Draws the columns that are new or that the playhead has passed, and the last one again, which may have grown.
  draw(playedFraction) {
    const made = Math.min(this.columns, Math.ceil((this.seen / this.samples) * this.columns));
    const played = Math.min(made, Math.floor(playedFraction * this.columns));
    const from = Math.min(this.played, played, made > this.drawn ? Math.max(0, this.drawn - 1) : this.columns);
    const to = Math.max(this.played, played, made > this.drawn ? made : 0);
    const height = this.canvas.height, middle = height / 2;
    this.context.clearRect(from, 0, to - from, height);
    for (let x = from; x < to; x++) {
      this.context.fillStyle = x < played ? this.wave : this.rest;
      const top = middle - this.high[x] * middle * 0.96;
      this.context.fillRect(x, top, 1, Math.max(1, (this.high[x] - this.low[x]) * middle * 0.96));
    }
    this.drawn = made;
    this.played = played;
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

export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.size = 2048;
    this.fft = new Fft(this.size);
    this.window = Float64Array.from({ length: this.size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / this.size));
    this.colours = Array.from({ length: 256 }, (_, i) => heat(i / 255));
    this.re = new Float64Array(this.size);
    this.im = new Float64Array(this.size);
  }

  begin(track) {
    this.canvas.width = Math.max(1, Math.min(900, Math.round(this.canvas.clientWidth)));
    this.canvas.height = Math.round(this.canvas.clientHeight);
    this.track = track;
    this.hop = track.samples / this.canvas.width;
    this.column = 0;
    this.context.fillStyle = "#0b0a0d";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    const rows = this.canvas.height, top = Math.min(16000, track.rate / 2.1);
    this.bins = Float64Array.from({ length: rows }, (_, y) => (40 * (top / 40) ** (1 - y / (rows - 1)) * this.size) / track.rate);
    this.add();
  }

  // Draws every column whose samples have all come; of a whole track, all of them.
  add() {
    const { made, whole } = this.track;
    const reach = whole ? Infinity : made;
    while (this.column < this.canvas.width && this.column * this.hop + this.size / 2 <= reach) this.drawColumn(this.column++);
  }

  drawColumn(x) {
    const { re, im } = this, { left, right, made } = this.track;
    const start = Math.round(x * this.hop - this.size / 2);
    for (let i = 0; i < this.size; i++) {
      const at = start + i;
      re[i] = at >= 0 && at < made ? ((left[at] + right[at]) / 2) * this.window[i] : 0;
    }
    im.fill(0);
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
