"""What it saves that one piece in several forms is one generation.

    python -m benchmarks.forms [--quick] [--out FILE]

Question: how much longer do MP3, FLAC and Opus of the same pieces take than their MP3 alone? The baseline is the same
process without a piece cache, in turns with it, on one thread. The ceiling is what the forms cost beside generating:
finishing, checking, encoding and storing, by the renderer's own stopwatch.

The embedded composer is the model that gains least: it makes a piece about as fast as it is finished and encoded.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.document import machine_now, publish
from orchestrion.rendering.config import RenderConfig
from orchestrion.rendering.renderer import Renderer, build_renderer
from orchestrion.tracks.outcome import Track
from orchestrion.tracks.record import TrackRecord
from orchestrion.tracks.spec import TrackSpec
from orchestrion.trust.signing import Signer

FORMS = ("mp3", "flac", "opus")
DURATION_S = 30.0
CACHE_MIB = 256


def renderer_in(folder: Path, piece_cache_mib: int) -> Renderer:
    """A renderer with an empty store."""
    config = RenderConfig(
        store_url=str(folder / f"store-{piece_cache_mib}"),
        signing_key_path=str(folder / "key.pem"),
        piece_cache_mib=piece_cache_mib,
    )
    return build_renderer(config, "bench")


def render(renderer: Renderer, seed: int, form: str) -> tuple[float, TrackRecord]:
    """Seconds for one track that is not in the store, and its record."""
    request = TrackSpec.from_json(
        {"prompt": "calm piano in D minor", "seed": seed, "duration_s": DURATION_S, "format": form}
    ).resolve()
    began_s = time.perf_counter()
    track = renderer.render(request)
    took_s = time.perf_counter() - began_s
    assert isinstance(track, Track) and not track.cache_hit, track
    return took_s, track.record


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pieces")
    parser.add_argument("--out", type=Path, help="also write the document there")
    arguments = parser.parse_args()
    pieces = 3 if arguments.quick else 20
    with tempfile.TemporaryDirectory(prefix="forms-") as place:
        folder = Path(place)
        Signer.create(folder / "key.pem")
        renderers = {"with_cache": renderer_in(folder, CACHE_MIB), "without": renderer_in(folder, 0)}
        for renderer in renderers.values():
            render(renderer, 10**6, "wav")  # Warm.
        ratios: dict[str, list[float]] = {name: [] for name in renderers}
        ceilings = []
        for seed in range(pieces):
            records: dict[str, list[TrackRecord]] = {}
            for name in sorted(renderers, reverse=bool(seed % 2)):
                took = [render(renderers[name], seed, form) for form in FORMS]
                records[name] = [record for _, record in took]
                ratios[name].append(sum(took_s for took_s, _ in took) / took[0][0])
            reused = [record.piece_reused for record in records["with_cache"]]
            assert reused == [False, True, True] and not any(record.piece_reused for record in records["without"])
            audio = [[record.audio_sha256 for record in made] for made in records.values()]
            assert audio[0] == audio[1], "the same bytes either way"
            made = records["without"]
            rest = [one.finish_s + one.check_s + one.encode_s + one.store_s for one in made]
            ceilings.append((made[0].generate_s + sum(rest)) / (made[0].generate_s + rest[0]))
    medians = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    publish(
        {
            "question": "how much longer do three forms of a piece take than the first alone",
            "machine": machine_now(),
            "model": "composer",
            "forms": FORMS,
            "duration_s": DURATION_S,
            "pieces": pieces,
            "times_as_long_as_one_form": medians,
            "ceiling": round(statistics.median(ceilings), 3),
            "faster_by": round(medians["without"] / medians["with_cache"], 3),
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
