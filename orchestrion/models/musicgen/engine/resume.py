"""What is kept of a piece, so that another process can go on with it: the codes of its complete frames, as bytes.

Codes are all there is to keep. The decoder's cache comes of feeding them again, the codec's state of decoding them
again, and every draw of its seed and column; so a piece that goes on from here is the one it would have been, bit for
bit. The bytes carry a hash of the whole request: the codes of another request would be accepted as well, and lead to
other music.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import numpy as np

from orchestrion.errors import InvalidRequest
from orchestrion.models.musicgen.decoder.decoder import Ints
from orchestrion.models.musicgen.geometry import LmGeometry
from orchestrion.models.protocol import Conditioning
from orchestrion.version import __version__

#: The first bytes of a checkpoint, with the version of its format: mark and codes follow, and a SHA-256 of all that.
_HEAD: Final = b"codes 1\n"
_HASH_BYTES: Final = hashlib.sha256().digest_size
#: A code takes two bytes, the lowest first. Codes of one frame are together: a later checkpoint only adds to its end.
_CODE: Final = np.dtype("<u2")
#: Bytes of a checkpoint beside its codes.
OVERHEAD_BYTES: Final = len(_HEAD) + 2 * _HASH_BYTES


def mark_of(conditioning: Conditioning, revision: str) -> bytes:
    """What tells the checkpoints of one piece from those of any other: a hash of everything that decides its codes.

    Our own version is part of that: the rest of a piece must not be drawn in another way than its beginning.
    """
    uploads = [hashlib.sha256(upload or b"").hexdigest() for upload in (conditioning.theme, conditioning.continuation)]
    said = replace(conditioning, theme=None, continuation=None)
    return hashlib.sha256(repr((__version__, revision, said, uploads)).encode()).digest()


def checkpoint_of(codes: Ints, mark: bytes) -> bytes:
    """The checkpoint with `codes`, [codebooks, frames], of the piece with this `mark`."""
    content = _HEAD + mark + codes.T.astype(_CODE).tobytes()
    return content + hashlib.sha256(content).digest()


def codes_of(checkpoint: bytes, mark: bytes, geometry: LmGeometry, longer_than: int, up_to: int) -> Ints:
    """The codes in a checkpoint of the piece with this `mark`: [codebooks, frames], `longer_than` < frames <= `up_to`.

    Raises:
        InvalidRequest: it is damaged, or of another piece.
    """
    content, digest = checkpoint[:-_HASH_BYTES], checkpoint[-_HASH_BYTES:]
    if len(checkpoint) < OVERHEAD_BYTES or hashlib.sha256(content).digest() != digest:
        raise _refusal(checkpoint, "is damaged")
    if not content.startswith(_HEAD + mark):
        raise _refusal(checkpoint, "is of another request, model revision or version of this software")
    frames, rest = divmod(len(checkpoint) - OVERHEAD_BYTES, geometry.codebooks * _CODE.itemsize)
    if rest or not longer_than < frames <= up_to:
        raise _refusal(checkpoint, f"has {frames} frames; between {longer_than + 1} and {up_to} make sense")
    codes: Ints = np.frombuffer(content, _CODE, offset=len(_HEAD) + _HASH_BYTES).astype(np.int64)
    if codes.max() >= geometry.card:
        raise _refusal(checkpoint, f"has the code {codes.max()}; there are {geometry.card}")
    return codes.reshape(frames, geometry.codebooks).T


def _refusal(checkpoint: bytes, problem: str) -> InvalidRequest:
    return InvalidRequest.of("checkpoint", f"{len(checkpoint)} bytes", f"{problem}; begin the piece anew")
