"""The embedded composer: prompt → score → sampled instruments → mix. No download, no GPU, bit-reproducible."""

from orchestrion.models.composer.model import Composer

__all__ = ["Composer"]
