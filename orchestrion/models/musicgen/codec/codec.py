"""EnCodec: codes to audio, piece by piece as the codes come, and audio to codes.

The codec isn't causal: a frame's samples are final when the `look_ahead_frames` after it are known. Every layer keeps
the few rows of the past that it still needs and computes each row once. How a piece is cut into pushes, and which other
pieces share them, changes no bit of its audio on the CPU (on other devices: nothing above 1e-5 of the peak).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from orchestrion.audio.pcm import Pcm
from orchestrion.errors import InvalidRequest, Overloaded
from orchestrion.models.musicgen.codec import cpu as codec_cpu
from orchestrion.models.musicgen.codec import pytorch as codec_torch
from orchestrion.models.musicgen.codec.cpu import CpuDecoder
from orchestrion.models.musicgen.codec.pytorch import Encoder, TorchDecoder
from orchestrion.models.musicgen.codec.window import Part, frames_ahead
from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.weights import CodecWeights

Codes = npt.NDArray[np.int64]

#: 0.2 to 0.4 core-seconds at the published size.
CPU_FRAMES_AT_ONCE: Final = 50


class LaneDecoder(Protocol):
    """The decoder half for mono pieces, each in a lane of its own."""

    def open(self, lane: int) -> None:
        """Begin a piece in `lane`."""
        ...

    def decode(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """The samples of each part's lane that have become final, [samples]."""
        ...


class DecodeStream:
    """One piece being decoded: a slot of its codec until it is closed or its last codes are pushed."""

    def __init__(self, codec: Codec, slot: int) -> None:
        self._codec = codec
        self.slot = slot

    def close(self) -> None:
        """Free the slot; what was not yet final is lost. Closing twice is the same as once."""
        self._codec.release(self)


class Codec:
    """One model's EnCodec, for all its requests.

    One thread at a time may push; streams other than those being pushed may be opened and closed meanwhile, and any
    thread may encode.
    """

    def __init__(
        self, geometry: CodecGeometry, weights: CodecWeights, *, slots: int, threads: int, device: str = "cpu"
    ) -> None:
        """Room for `slots` pieces at the same time.

        Args:
            geometry: its sizes.
            weights: packed or copied; the decoder's are not needed afterwards.
            slots: pieces that can be open together.
            threads: of the CPU.
            device: "cpu" for the kernels made here; any other is torch's: "cuda", or "torch-cpu" for torch on the CPU.

        Raises:
            InvalidRequest: no EnCodec of a MusicGen has this geometry.
        """
        if slots < 1 or threads < 1:
            raise ValueError(f"a codec needs at least one slot and one thread, not {slots} and {threads}")
        if geometry.lstm_layers < 1 or geometry.residual_layers < 1:
            sizes = f"{geometry.lstm_layers} LSTM layers, {geometry.residual_layers} residual blocks a stage"
            raise InvalidRequest.of("codec", sizes, "must have at least one of each; use a published EnCodec")
        self.geometry = geometry
        self.look_ahead_frames = frames_ahead(geometry)
        self._free = list(range(slots))[::-1]
        self._open: dict[int, DecodeStream] = {}
        lanes, place = slots * geometry.channels, torch.device("cpu" if device == "torch-cpu" else device)
        self._encoder = Encoder(geometry, weights, place)
        self._decoder: LaneDecoder = (
            CpuDecoder(geometry, weights, lanes, threads)
            if device == "cpu"
            else TorchDecoder(geometry, weights, lanes, place)
        )

    @staticmethod
    def memory_bytes(geometry: CodecGeometry, slots: int, max_frames_per_push: int, device: str = "cpu") -> int:
        """Memory that a codec takes on `device` while all slots are open and get up to that many frames in a push."""
        lanes = slots * geometry.channels
        if device != "cpu":
            return codec_torch.decoder_bytes(geometry, lanes) + codec_torch.encoder_bytes(geometry)
        # A push's samples exist twice while blocks are joined, and while channels are.
        samples = 4 * 2 * lanes * (max_frames_per_push + frames_ahead(geometry)) * geometry.hop
        return codec_cpu.memory_bytes(geometry, lanes) + codec_torch.encoder_bytes(geometry) + samples

    @property
    def frames_at_once(self) -> int:
        """Frames of all its streams that a push should have at most, so that the next one does not wait long.

        A device other than the CPU takes as many as one batch; a CPU gains nothing by more than a second's worth.
        """
        return CPU_FRAMES_AT_ONCE if self.is_seamless else codec_torch.BATCH_FRAMES

    @property
    def is_seamless(self) -> bool:
        """Whether a piece's frames cost the same in short pushes as in long ones: within a tenth, from 14 frames on.

        A device other than the CPU computes what is around each push again.
        """
        return isinstance(self._decoder, CpuDecoder)

    @property
    def codebooks(self) -> int:
        """Rows of codes of a piece: for stereo left and right of each codebook side by side, [l0, r0, l1, r1, …]."""
        return self.geometry.codebooks * self.geometry.channels

    def open(self) -> DecodeStream:
        """Begin a piece.

        Raises:
            Overloaded: all slots are open.
        """
        if not self._free:
            raise Overloaded(f"all {len(self._open)} slots of the codec are open; close a stream first", 1.0)
        slot = self._free.pop()
        for lane in self._lanes(slot):
            self._decoder.open(lane)
        self._open[slot] = stream = DecodeStream(self, slot)
        return stream

    def release(self, stream: DecodeStream) -> None:
        """Free the slot of `stream`, if it is still its own."""
        if self._open.get(stream.slot) is stream:
            del self._open[stream.slot]
            self._free.append(stream.slot)

    def push(self, items: Sequence[tuple[DecodeStream, Codes, bool]]) -> list[Pcm]:
        """Decode what is new of some pieces.

        Args:
            items: stream, its next codes [codebooks, frames ≥ 0], and whether they are its last. A stream comes at
                most once; its last codes close it.

        Returns:
            For each item the samples that have become final, [samples, channels].

        Raises:
            InvalidRequest: a stream is closed or comes twice, or codes are of a wrong shape or range. Nothing was
                decoded then.
            MemoryError, torch.OutOfMemoryError: there is no room; the streams of this push must be closed.
        """
        self._check(items)
        parts = [
            Part(lane, codes[channel :: self.geometry.channels], last)
            for stream, codes, last in items
            for channel, lane in enumerate(self._lanes(stream.slot))
        ]
        made = self._decoder.decode(parts) if parts else []
        for stream, _, last in items:
            if last:
                stream.close()
        channels = self.geometry.channels
        return [np.stack(made[i : i + channels], axis=1) for i in range(0, len(made), channels)]

    def decode(self, codes: Codes) -> Pcm:
        """The audio of a whole piece: [samples, channels] of codes [codebooks, frames].

        Raises:
            InvalidRequest: the codes are of a wrong shape or range.
            Overloaded: all slots are open.
        """
        stream = self.open()
        try:
            return self.push([(stream, codes, True)])[0]
        finally:
            stream.close()

    def encode(self, pcm: Pcm) -> Codes:
        """The codes of audio at the codec's rate: [codebooks, frames] of [samples, channels].

        The last frame is filled up with silence.

        Raises:
            InvalidRequest: there are no samples, or not the codec's number of channels.
        """
        channels = self.geometry.channels
        if pcm.ndim != 2 or pcm.shape[1] != channels or len(pcm) == 0:
            raise InvalidRequest.of("pcm", pcm.shape, f"must be at least one sample of {channels} channels")
        if not np.isfinite(pcm).all():
            raise InvalidRequest.of("pcm", "not finite", "every sample must be a finite number")
        # [channels, codebooks, frames] → codebooks in order, the channels of each side by side.
        codes = self._encoder.encode(np.ascontiguousarray(pcm.T, np.float32))
        return np.ascontiguousarray(codes.transpose(1, 0, 2).reshape(self.codebooks, -1))

    def _lanes(self, slot: int) -> range:
        return range(slot * self.geometry.channels, (slot + 1) * self.geometry.channels)

    def _check(self, items: Sequence[tuple[DecodeStream, Codes, bool]]) -> None:
        seen: set[int] = set()
        for stream, codes, _ in items:
            if self._open.get(stream.slot) is not stream:
                raise InvalidRequest.of("stream", f"slot {stream.slot}", "is closed; open another for another piece")
            if stream.slot in seen:
                raise InvalidRequest.of("stream", f"slot {stream.slot}", "comes twice; push its codes as one array")
            seen.add(stream.slot)
            if codes.ndim != 2 or len(codes) != self.codebooks or not np.issubdtype(codes.dtype, np.integer):
                wanted = f"must be integers [{self.codebooks} codebooks, frames]"
                raise InvalidRequest.of("codes", f"{codes.dtype} {codes.shape}", wanted)
            if codes.size and (codes.min() < 0 or codes.max() >= self.geometry.card):
                span = f"{codes.min()}…{codes.max()}"
                raise InvalidRequest.of("codes", span, f"must lie in 0…{self.geometry.card - 1}")
