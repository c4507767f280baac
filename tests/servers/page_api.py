"""The web page behind a stand-in for the service: what it answers, and when, is what a test says."""

import io
import json
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import numpy as np
import soundfile

from orchestrion.errors import InvalidRequest
from orchestrion.tracks.intent.reader import read_intent
from orchestrion.tracks.request import CONTROLS
from orchestrion.tracks.spec import TrackSpec
from orchestrion.tracks.vocabulary import MOODS, STYLES
from serve_app.middleware import SECURITY_HEADERS

RATE_HZ = 8000
MODEL = {
    "name": "composer",
    "sample_rate_hz": RATE_HZ,
    "weights_licence": "MIT",
    "commercial_use": True,
    "max_duration_s": 600,
    "controls": [
        name for name in CONTROLS if name not in ("continuation", "guidance", "temperature", "top_k", "top_p")
    ],
}
MEDIA_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@dataclass
class Refusal:
    status: int
    title: str = ""
    detail: str = ""
    problems: list = field(default_factory=list)
    retry_after_s: int | None = None
    #: A body instead of the problem document.
    raw: bytes | None = None


class PageApi:
    """What the stand-in does next, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: While this is not set, no stream begins.
        self.accept = threading.Event()
        #: While this is not set, a stream stops after its first half.
        self.go_on = threading.Event()
        self.reset()

    def reset(self) -> None:
        self.accept.set()
        self.go_on.set()
        #: (path, headers, body) of every POST but those that only ask what words mean.
        self.asked = []
        #: Bodies of those.
        self.read = []
        #: Prompt → what has to be set before it is answered what it means.
        self.slow = {}
        self.gets = []
        #: Path → what the next request for it is refused with.
        self.refusals = {}
        self.duration_s = 2.0
        #: Whether streams break off after their first half.
        self.breaks_off = False
        #: Samples more (or fewer) than the duration promises.
        self.samples_more = 0
        self.tracks = {}
        #: What the model follows.
        self.controls = MODEL["controls"]

    def refuse(self, path: str, *refusal, **fields) -> None:
        self.refusals[path] = Refusal(*refusal, **fields)

    def bodies(self, path: str) -> list:
        return [body for asked, _, body in self.asked if asked == path]

    def new_track(self, prompt: str, format: str) -> str:
        number = len(self.tracks)
        track_id = "trk_" + "".join("abcdefghij"[int(digit)] for digit in f"{number:032}")
        audio = 0.5 * np.sin(np.arange(round(self.duration_s * RATE_HZ) + self.samples_more) / 3)
        self.tracks[track_id] = prompt, format, np.repeat(audio[:, None], 2, axis=1)
        return track_id

    def summary(self, track_id: str) -> dict:
        prompt, format, audio = self.tracks[track_id]
        address = f"/v1/tracks/{track_id}"
        record = {
            "track_id": track_id,
            "prompt": prompt,
            "format": format,
            "audio_bytes": 2 * audio.size,
            "audio_sha256": "5" * 64,
            "model": "composer",
            "weights_licence": "MIT",
            "cost_usd": 0.0000021,
            "measured_loudness_lufs": -14.0,
            "measured_true_peak_dbtp": -2.8,
            "style": "waltz",
            "node_type": "local-cpu",
            "market": "on-demand",
            "pool": "low-latency",
            "device_seconds": 0.4,
            "price_usd_per_device_hour": 0.02,
            "commercial_use": True,
            "choices": {"key": "Eb major", "tempo_bpm": 96, "form": "intro A B A", "instruments": "piano, strings"},
            "findings": [
                {"name": name, "passed": True, "measured": 0, "unit": ""}
                for name in ("loudness", "true peak", "length", "longest silence", "decoding errors")
            ],
        }
        return {
            "id": track_id,
            "links": {name: f"{address}/{name}" for name in ("audio", "midi", "provenance")},
            "intent": read_intent(prompt).values(),
            "record": record,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: PageApi

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path
        if path == "/" or path.startswith("/page/"):
            name = path.removeprefix("/page/") if path != "/" else "index.html"
            data = (files("serve_app") / "studio" / name).read_bytes()
            self.answer(200, data, MEDIA_TYPES[name.rsplit(".", 1)[1]])
            return
        if not path.startswith("/v1/"):
            self.answer(404, b"", "text/plain")
            return
        self.api.gets.append(path)
        if self.refused(path):
            return
        if path == "/v1/models":
            self.answer_json({"models": [MODEL | {"controls": self.api.controls}]})
        elif path == "/v1/styles":
            self.answer_json({"styles": [*STYLES], "moods": [*MOODS]})
        elif path.endswith("/audio"):
            sink = io.BytesIO()
            soundfile.write(sink, self.api.tracks[path.split("/")[3]][2], RATE_HZ, format="WAV")
            self.answer(200, sink.getvalue(), "audio/wav")
        else:
            self.answer_json(self.api.summary(path.split("/")[3]))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.split("?")[0]
        if path == "/v1/intent":
            self.answer_intent(json.loads(body))
            return
        self.api.asked.append((path, dict(self.headers), body))
        if self.refused(path):
            return
        if path == "/v1/themes":
            self.answer_json({"theme": f"sha256:{'7' * 64}"})
            return
        if not self.api.accept.wait(timeout=30):
            return
        spec = json.loads(body)
        track_id = self.api.new_track(spec["prompt"], spec.get("format", "wav"))
        self.send_response(200)
        headers = SECURITY_HEADERS | {
            "X-Track-Id": track_id,
            "X-Cache": "miss",
            "X-Sample-Rate": str(RATE_HZ),
            "X-Channels": "2",
            "X-Duration-Seconds": str(self.api.duration_s),
            "Content-Type": "audio/pcm",
            "Transfer-Encoding": "chunked",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        levels = (self.api.tracks[track_id][2] * 32767).astype("<i2")
        blocks = np.array_split(levels, 20)
        for number, block in enumerate(blocks):
            if number == len(blocks) // 2 and (not self.api.go_on.wait(timeout=30) or self.api.breaks_off):
                self.close_connection = True
                return
            data = block.tobytes()
            try:
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            except OSError:  # The page has given the track up.
                self.close_connection = True
                return
        self.wfile.write(b"0\r\n\r\n")

    def answer_intent(self, asked: dict) -> None:
        """What the service answers."""
        self.api.read.append(asked)
        if asked["prompt"] in self.api.slow:
            self.api.slow[asked["prompt"]].wait(timeout=30)
        if self.refused("/v1/intent"):
            return
        try:
            request = TrackSpec.from_json(asked).resolve()
        except InvalidRequest as error:
            problems = [asdict(problem) for problem in error.problems]
            self.api.refuse("/v1/intent", 422, "The request cannot be used", str(error), problems)
            self.refused("/v1/intent")
            return
        values = request.composition.values() | request.delivery.values()
        try:
            self.answer_json(request.intent.values() | {"request": values})
        except OSError:  # The page has asked something else since.
            self.close_connection = True

    def refused(self, path: str) -> bool:
        refusal = self.api.refusals.pop(path, None)
        if refusal is None:
            return False
        problem = {"title": refusal.title, "detail": refusal.detail, "problems": refusal.problems}
        more = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        data = refusal.raw or json.dumps(problem | {"status": refusal.status}).encode()
        self.answer(refusal.status, data, "application/problem+json", more)
        return True

    def answer_json(self, body: dict) -> None:
        self.answer(200, json.dumps(body).encode(), "application/json")

    def answer(self, status: int, data: bytes, media_type: str, headers: dict | None = None) -> None:
        self.send_response(status)
        for name, value in (SECURITY_HEADERS | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def page_api():
    """A running stand-in."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    handler.api = PageApi(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield handler.api
    finally:
        handler.api.reset()
        server.shutdown()
        server.server_close()
