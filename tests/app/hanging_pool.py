"""A replica whose composer stops for ever in the middle of a piece whose prompt says so."""

import threading
from collections.abc import Iterator

from orchestrion.audio.pcm import Pcm
from orchestrion.rendering.admission import Pool
from serve_app.config import PoolProfile, ServeConfig
from serve_app.deployments.render_pool import RenderPool

#: A prompt with these words is not played to its end.
HANG = "hang after the first chunk"


class HangingPool(RenderPool):
    """The pool of the tests' service, with a model in which something gets stuck."""

    def __init__(self, pool: Pool, config: ServeConfig, profile: PoolProfile) -> None:
        super().__init__(pool, config, profile)
        composer = self._renderer.models["composer"]
        perform = composer.perform

        def perform_or_hang(conditioning, **options):
            performance = perform(conditioning, **options)
            if HANG in conditioning.prompt:
                performance.chunks = _stuck(performance.chunks)
            return performance

        composer.perform = perform_or_hang


def _stuck(chunks: Iterator[Pcm]) -> Iterator[Pcm]:
    yield next(chunks)
    threading.Event().wait()
