"""Whether any of a great many broken files crashes, hangs or fills what reads uploads, or does more than be refused.

Good MIDI files and recordings are broken at random (bits, bytes, sizes, pieces cut out, doubled and put together) and
read as uploads are, in a process with the limits of one that checks uploads. Any end of that process, any exception
that is no refusal, and any file that takes longer than an upload may is a fault; the file is kept. mido reads the same
MIDI files beside it, to tell what is read that was not.

    fuzz_uploads.py [--quick] [--seconds N] [--seed N] [--keep FOLDER] [--out FILE]

Ends in one JSON document, and with 1 if there were faults.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import mido

from benchmarks.document import machine_now, publish
from orchestrion.audio.encode import encode
from orchestrion.audio.midi import is_midi
from orchestrion.errors import InvalidRequest
from orchestrion.isolation.limits import limit_memory
from orchestrion.isolation.process import IsolatedProcess, ProcessLostError
from orchestrion.tracks.request import AudioFormat
from serve_app.uploads.found import UploadUse
from serve_app.uploads.reading import read_upload
from serve_app.uploads.worker import MAX_MEMORY_BYTES
from tests.midi_files import TEMPO_120, chunk, header, midi, notes, time_signature, track
from tests.recordings import RATE_HZ, recorded, tune, wav

#: What an upload may take (`upload_timeout_s`).
TIMEOUT_S: Final = 20.0
QUICK_S: Final = 20.0
FULL_S: Final = 600.0
#: Sizes and counts that readers have broken on.
_NUMBERS: Final = (0, 1, 2, 7, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
_BYTES: Final = (0x00, 0x01, 0x2F, 0x51, 0x58, 0x7F, 0x80, 0x90, 0xF0, 0xF7, 0xFF)


def midi_seeds() -> list[bytes]:
    """Files of each form, with everything in them that is looked at."""
    whole = TEMPO_120 + time_signature(3, 2) + b"\0\xff\x59\x02\xfe\x01" + b"\0\xf0\x03\x7e\x7f\xf7" + notes()
    smf = header(1, 3) + track(TEMPO_120) + chunk(b"XFIH", bytes(range(40))) + track(whole) + track(notes(channel=9))
    rmid = b"RIFF" + struct.pack("<I", 12 + len(smf)) + b"RMIDdata" + struct.pack("<I", len(smf)) + smf
    return [midi(whole), smf, rmid, header(0, 1, 0xE728) + track(notes())]


def audio_seeds() -> list[bytes]:
    """A short tune in each container."""
    audio = tune(note_s=0.15)
    seeds = [wav(audio), wav(audio, size=0, riff_size=0), wav(audio, before=b"LIST\x05\0\0\0INFOx")]
    seeds += [encode(audio[:, None], RATE_HZ, format) for format in AudioFormat]
    high = tune(48_000, note_s=0.15)
    forms = (("ipod", "aac"), ("ipod", "alac"), ("adts", "aac"), ("webm", "libopus"), ("ogg", "flac"))
    return [*seeds, *(recorded(container, codec, high) for container, codec in forms)]


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the files, broken in one to three ways."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 3)):
        # Half of all changes are in its head, where sizes stand.
        end = len(data) if rng.random() < 0.5 else min(len(data), 64)
        at = rng.randrange(end) if end else 0
        length = min(rng.choice((1, 2, 4, 16, 300, 5000)), len(data) - at)
        match rng.randrange(9):
            case 0 if data:
                data[at] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at] = rng.choice(_BYTES)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
            case 4:
                data[at:at] = rng.randbytes(length)
            case 5:
                del data[at:]
            case 6:
                data[at : at + 4] = struct.pack(rng.choice((">I", "<I")), rng.choice(_NUMBERS))
            case 7:
                data[at : at + 2] = struct.pack(rng.choice((">H", "<H")), rng.choice(_NUMBERS) & 0xFFFF)
            case _:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other)) :]
    return bytes(data)


def read_files() -> None:
    """The process that reads: a path a line comes in, what came of it goes out."""
    limit_memory(MAX_MEMORY_BYTES)
    for line in sys.stdin:
        use, path = json.loads(line)
        begun_s = time.process_time()
        try:
            found = read_upload(Path(path).read_bytes(), UploadUse(use))
            said: dict[str, object] = {"outcome": "read", "kind": found.kind}
        except InvalidRequest as error:
            said = {"outcome": "refused", "kind": error.problems[0].message}
        except Exception:
            said = {"outcome": "fault", "kind": traceback.format_exc()}
        said |= {"cpu_s": time.process_time() - begun_s, "kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        print(json.dumps(said), flush=True)


class Fuzz:
    """One run: files are read one after the other, and counted by what came of them."""

    def __init__(self, keep: Path) -> None:
        self.outcomes: dict[str, Counter[str]] = {"midi": Counter(), "audio": Counter()}
        self.faults: list[dict[str, str]] = []
        #: Of a core, of the reader itself; FFmpeg's process has limits of its own.
        self.most_cpu_s = {"midi": 0.0, "audio": 0.0}
        self.slowest_s = {"midi": 0.0, "audio": 0.0}
        self.peak_mb = 0
        self._keep = keep
        self._process: IsolatedProcess | None = None

    def read(self, data: bytes, use: UploadUse, path: Path) -> None:
        """Have one file read."""
        form = "midi" if is_midi(data[:300]) else "audio"
        path.write_bytes(data)
        if self._process is None:
            self._process = IsolatedProcess((sys.executable, "-m", "benchmarks.fuzz_uploads", "--read"))
        begun_s = time.monotonic()
        try:
            self._process.write(json.dumps([use, str(path)]).encode() + b"\n", TIMEOUT_S)
            said = json.loads(self._process.read_line(TIMEOUT_S, 1 << 20))
        except ProcessLostError as error:
            self.close()
            said = {"outcome": "fault", "kind": f"reading it {error}", "cpu_s": 0, "kb": 0}
        self.outcomes[form][said["outcome"]] += 1
        self.slowest_s[form] = max(self.slowest_s[form], time.monotonic() - begun_s)
        self.most_cpu_s[form] = max(self.most_cpu_s[form], said["cpu_s"])
        self.peak_mb = max(self.peak_mb, said["kb"] // 1024)
        if said["outcome"] == "fault":
            self._keep.mkdir(parents=True, exist_ok=True)
            kept = self._keep / f"fault-{len(self.faults):03}"
            kept.write_bytes(data)
            self.faults.append({"file": str(kept), "use": use, "what": said["kind"]})

    def close(self) -> None:
        """End the process that reads."""
        if self._process is not None:
            self._process.kill()
            self._process = None


def mido_reads(data: bytes) -> bool:
    """Whether the library that read MIDI before takes a file."""
    try:
        mido.MidiFile(file=io.BytesIO(data))
    except Exception:
        return False
    return True


def run(seconds: float, seed: int, keep: Path, tell: Callable[[str], None]) -> dict[str, object]:
    """Break and read files for so long."""
    rng, fuzz = random.Random(seed), Fuzz(keep)
    seeds = {"midi": midi_seeds(), "audio": audio_seeds()}
    until_s = time.monotonic() + seconds
    by_mido = Counter[bool]()
    with tempfile.TemporaryDirectory(prefix="orchestrion-fuzz-") as folder:
        path = Path(folder) / "upload"
        # Whole files first: a reader that refuses everything has no faults either.
        for name, files in seeds.items():
            for data in files:
                fuzz.read(data, UploadUse.THEME, path)
            if fuzz.outcomes[name] != {"read": len(files)}:
                raise SystemExit(f"good {name} files are not read: {fuzz.outcomes[name]}, {fuzz.faults}")
        while time.monotonic() < until_s:
            # MIDI takes a twentieth of the time: as many seconds go to each.
            data = mutated(rng, seeds["midi" if rng.random() < 0.9 else "audio"])
            fuzz.read(data, UploadUse.THEME if rng.random() < 0.8 else UploadUse.CONTINUATION, path)
            if is_midi(data[:300]) and len(data) < 20_000:
                by_mido[mido_reads(data)] += 1
        fuzz.close()
    tell(f"{sum(map(Counter.total, fuzz.outcomes.values()))} files, {len(fuzz.faults)} faults")
    return {
        "seconds": seconds,
        "seed": seed,
        "files": {name: dict(counts) for name, counts in fuzz.outcomes.items()},
        "midi_that_mido_reads": {"read": by_mido[True], "refused": by_mido[False]},
        "most_cpu_s": {name: round(most, 3) for name, most in fuzz.most_cpu_s.items()},
        "slowest_s": {name: round(slowest, 3) for name, slowest in fuzz.slowest_s.items()},
        "peak_memory_mb": fuzz.peak_mb,
        "faults": fuzz.faults,
    }


def main() -> None:
    """Read the command line, run, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="Where files go that are faults.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read_files()
        return
    seconds = options.seconds or (QUICK_S if options.quick else FULL_S)
    found = run(seconds, options.seed, options.keep, lambda text: print(text, file=sys.stderr))
    publish(
        {"question": __doc__.splitlines()[0], "machine": machine_now(), "quick": options.quick} | found, options.out
    )
    if found["faults"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
