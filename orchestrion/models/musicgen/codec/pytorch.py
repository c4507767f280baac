"""EnCodec in torch: the decoder half for devices other than the CPU, and the encoder half for all of them.

Between pushes a lane keeps what cannot be had again, the LSTM's state, and the few frames around the seam; the stages
run over those a second time. Lanes that are equally far along run as one batch. A library chooses its algorithms by
shape, so here how a piece is cut changes its last bits, never more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from orchestrion.models.musicgen.codec.window import Part, Reach, frames_ahead, frames_behind, residual_reaches, rounds
from orchestrion.models.musicgen.geometry import CodecGeometry
from orchestrion.models.musicgen.one_thread import one_thread
from orchestrion.models.musicgen.weights import CodecWeights, Conv, LstmLayer, Residual, Seanet, Stage

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

#: Frames that are encoded at a time up to the LSTM, where a second takes 40 MB.
SEGMENT_FRAMES: Final = 50
#: Frames of a lane that are decoded at a time, and of all lanes of a batch: 250 MB of signals.
BLOCK_FRAMES: Final = 100
BATCH_FRAMES: Final = 400


def padded(x: Tensor, left: int, right: int, mode: str) -> Tensor:
    """`x` [batch, channels, samples] longer at both ends; what is too short to be reflected is as if zeros followed."""
    if mode != "reflect":
        return functional.pad(x, (left, right))
    missing = max(0, max(left, right) + 1 - x.shape[-1])
    reflected = functional.pad(functional.pad(x, (0, missing)), (left, right), mode="reflect")
    return reflected[..., : reflected.shape[-1] - missing]


def lstm_module(layers: Sequence[LstmLayer]) -> nn.LSTM:
    """`layers` as torch's own module, over [batch, time, width]."""
    width = layers[0].hidden_weight.shape[1]
    with torch.device("meta"):
        module = nn.LSTM(width, width, len(layers), batch_first=True)
    named = {
        f"{name}_l{index}": tensor
        for index, layer in enumerate(layers)
        for name, tensor in (
            ("weight_ih", layer.input_weight),
            ("weight_hh", layer.hidden_weight),
            ("bias_ih", layer.input_bias),
            ("bias_hh", layer.hidden_bias),
        )
    }
    module.load_state_dict(named, assign=True)
    return module


def placed(seanet: Seanet, device: torch.device) -> Seanet:
    """The convolutions of `seanet` on `device`."""

    def conv(one: Conv) -> Conv:
        return Conv(one.weight.to(device), one.bias.to(device))

    def residual(one: Residual) -> Residual:
        return Residual(conv(one.inner), conv(one.outer), None if one.skip is None else conv(one.skip))

    stages = tuple(Stage(conv(s.resample), tuple(residual(r) for r in s.residuals)) for s in seanet.stages)
    return Seanet(conv(seanet.first), seanet.lstm, stages, conv(seanet.last))


class Half:
    """What encoder and decoder share: weights on a device, and the layers that keep the rate."""

    def __init__(self, geometry: CodecGeometry, weights: CodecWeights, seanet: Seanet, device: torch.device) -> None:
        # For all of the process and for good: cuDNN's default rounds what it multiplies to 10 bits, and a setting that
        # is put back may be put back under the feet of another model's thread.
        torch.backends.cudnn.allow_tf32 = False
        self.geometry = geometry
        self.device = device
        self.codebooks = weights.codebooks.to(device)
        self.seanet = placed(seanet, device)
        self.lstm = lstm_module(seanet.lstm).to(device)

    def conv(self, x: Tensor, conv: Conv, *, stride: int = 1, dilation: int = 1) -> Tensor:
        """A convolution to ceil(samples / stride) samples; of an odd number of padded rows the start gets more."""
        surplus = (conv.weight.shape[2] - 1) * dilation + 1 - stride
        filling = -x.shape[-1] % stride
        x = padded(x, surplus - surplus // 2, surplus // 2 + filling, self.geometry.pad_mode)
        return functional.conv1d(x, conv.weight, conv.bias, stride=stride, dilation=dilation)

    def residuals(self, x: Tensor, residuals: Sequence[Residual]) -> Tensor:
        """The residual blocks of a stage, one after the other."""
        for layer, block in enumerate(residuals):
            inner = self.conv(functional.elu(x), block.inner, dilation=self.geometry.dilation_base**layer)
            skipped = x if block.skip is None else self.conv(x, block.skip)
            x = skipped + self.conv(functional.elu(inner), block.outer)
        return x


def own_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for work beside the language model, whose steps would otherwise be waited for; none but on CUDA.

    It begins when what was put on the device so far is there. Torch takes None for no stream.
    """
    if device.type != "cuda":
        return None
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    return stream


def half_bytes(geometry: CodecGeometry) -> int:
    """Memory of the weights of an encoder, or of a decoder."""
    width, values = geometry.filters, geometry.kernel * geometry.filters
    for ratio in reversed(geometry.ratios):
        inner = width // geometry.compress
        skip = 0 if geometry.identity_skip else width * width
        values += geometry.residual_layers * (inner * width * (geometry.residual_kernel + 1) + skip)
        values += 2 * width * width * 2 * ratio
        width *= 2
    return 4 * (values + geometry.lstm_layers * 8 * width * width + geometry.dim * width * geometry.last_kernel)


def signal_bytes(geometry: CodecGeometry, frames: int) -> int:
    """Memory for working on so many frames: in a residual block its input, that through ELU and padded, its output."""
    return 4 * 4 * frames * geometry.hop * geometry.filters


def encoder_bytes(geometry: CodecGeometry) -> int:
    """Memory of an `Encoder` at work."""
    return half_bytes(geometry) + signal_bytes(geometry, SEGMENT_FRAMES + sum(heard_frames(geometry)))


def decoder_bytes(geometry: CodecGeometry, lanes: int) -> int:
    """Memory of a `TorchDecoder` at work, its codebooks included."""
    width, seam = geometry.filters << len(geometry.ratios), frames_ahead(geometry) + frames_behind(geometry)
    kept = lanes * 4 * width * (2 * geometry.lstm_layers + seam)
    books = 4 * geometry.codebooks * geometry.card * geometry.dim
    return half_bytes(geometry) + books + kept + signal_bytes(geometry, max(BATCH_FRAMES, BLOCK_FRAMES + seam))


def heard_frames(geometry: CodecGeometry) -> tuple[int, int]:
    """Frames before and after a frame whose samples reach it before the LSTM: 2 and 1 in the published geometry."""
    first = last = 0
    for ratio in geometry.ratios:
        start = -(ratio - ratio // 2)
        first, last = first * ratio + start, last * ratio + start + 2 * ratio - 1
        first -= sum(reach.left for reach in residual_reaches(geometry))
        last += sum(reach.right for reach in residual_reaches(geometry))
    reach = Reach.of_conv(geometry.kernel)
    # The end of a piece that fills its last frame by a fraction is reflected from up to a frame further back.
    return 1 - ((first - reach.left) // geometry.hop), (last + reach.right) // geometry.hop


class Encoder(Half):
    """Audio to codes, a whole piece at a time, in memory that does not grow with it before the LSTM."""

    def __init__(self, geometry: CodecGeometry, weights: CodecWeights, device: torch.device) -> None:
        super().__init__(geometry, weights, weights.encoder, device)
        self._behind, self._ahead = heard_frames(geometry)
        self._stream = own_stream(device)
        #: One piece at a time, so that the memory predicted for an encoder is enough.
        self._lock = threading.Lock()

    @torch.inference_mode()
    def encode(self, pcm: Floats) -> Ints:
        """Codes [channels, codebooks, frames] of audio [channels, samples]; each channel as if alone.

        Any thread may ask. On a CPU one core does it: the others make music meanwhile.
        """
        with self._lock, one_thread(), torch.cuda.stream(self._stream):
            return np.stack([self._encode_mono(torch.from_numpy(channel)) for channel in pcm])

    def _encode_mono(self, samples: Tensor) -> Ints:
        hop = self.geometry.hop
        frames = -(-len(samples) // hop)
        pieces = []
        for start in range(0, frames, SEGMENT_FRAMES):
            stop = min(start + SEGMENT_FRAMES, frames)
            first, last = max(0, start - self._behind), min(frames, stop + self._ahead)
            piece = self._frames(samples[first * hop : last * hop].to(self.device)[None, None])
            pieces.append(piece[..., start - first : stop - first])
        x = torch.cat(pieces, dim=-1)
        states = x.transpose(1, 2)
        states = self.lstm(states)[0] + states
        rest = self.conv(functional.elu(states.transpose(1, 2)), self.seanet.last)[0].T
        codes = []
        for book in self.codebooks:
            # Squared distances, summed in the reference's order: nearly equal ones are to fall the same way.
            distance = rest.pow(2).sum(1, keepdim=True) - 2 * rest @ book.T + book.T.pow(2).sum(0, keepdim=True)
            nearest = distance.argmin(dim=1)
            rest = rest - book[nearest]
            codes.append(nearest)
        return torch.stack(codes).cpu().numpy()

    def _frames(self, x: Tensor) -> Tensor:
        """Samples [1, 1, samples] to what enters the LSTM, [1, width, frames]."""
        x = self.conv(x, self.seanet.first)
        for stage in self.seanet.stages:
            x = functional.elu(self.residuals(x, stage.residuals))
            x = self.conv(x, stage.resample, stride=stage.resample.weight.shape[2] // 2)
        return x


@dataclass(slots=True)
class Kept:
    """Frames of one lane, the last axis of `frames`, of which the first may have been let go."""

    #: [..., frames], up to frame `known` of the piece.
    frames: Tensor
    known: int = 0
    #: Frames that have gone on to the next layers.
    done: int = 0

    def append(self, frames: Tensor) -> None:
        """Frames that have come."""
        self.frames = torch.cat([self.frames, frames], dim=-1)
        self.known += frames.shape[-1]

    def take(self, behind: int, ahead: int, last: bool) -> Seam:
        """What can go on now with `ahead` frames after it, and `behind` frames before it."""
        end = self.known if last else max(self.done, self.known - ahead)
        first, stop = max(0, self.done - behind), min(self.known, end + ahead)
        gone = self.known - self.frames.shape[-1]
        seam = Seam(self.frames[..., first - gone : stop - gone], self.done - first, end - self.done)
        self.done = end
        self.frames = self.frames[..., max(0, end - behind) - gone :].clone()
        return seam


@dataclass(frozen=True, slots=True)
class Seam:
    """Frames to work on, of which `count` from `skip` on are new and the others there for their sake."""

    frames: Tensor
    skip: int
    count: int


def alike(seams: Sequence[Seam]) -> Iterator[list[int]]:
    """Indices of the seams that are worked on as one batch, of at most BATCH_FRAMES frames."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for index, seam in enumerate(seams):
        if seam.count:
            groups.setdefault((seam.frames.shape[-1], seam.skip, seam.count), []).append(index)
    for (frames, _, _), group in groups.items():
        size = max(1, BATCH_FRAMES // frames)
        yield from (group[first : first + size] for first in range(0, len(group), size))


class TorchDecoder(Half):
    """Codes of up to `lanes` mono pieces to their samples."""

    def __init__(self, geometry: CodecGeometry, weights: CodecWeights, lanes: int, device: torch.device) -> None:
        super().__init__(geometry, weights, weights.decoder, device)
        width = self.seanet.first.weight.shape[0]
        self._memory = torch.zeros(2, len(weights.decoder.lstm), lanes, width, device=device)
        self._no_codes = torch.empty(geometry.codebooks, 0, dtype=torch.int64, device=device)
        self._no_states = torch.empty(width, 0, device=device)
        self._codes: dict[int, Kept] = {}
        self._states: dict[int, Kept] = {}
        self._stream = own_stream(device)
        self._entrance = Reach.of_conv(geometry.kernel)
        self._behind = frames_behind(geometry)
        self._ahead = frames_ahead(geometry) - self._entrance.right

    def open(self, lane: int) -> None:
        """Begin a piece in `lane`."""
        self._codes[lane], self._states[lane] = Kept(self._no_codes), Kept(self._no_states)

    @torch.inference_mode()
    def decode(self, parts: Sequence[Part]) -> list[Floats]:
        """The samples of each part's lane that have become final, [samples]."""
        made: list[list[Floats]] = [[np.empty(0, np.float32)] for _ in parts]
        with torch.cuda.stream(self._stream):
            for blocks in rounds(parts, BLOCK_FRAMES):
                for index, samples in zip(blocks, self._decode_blocks(list(blocks.values())), strict=True):
                    made[index] += samples
        return [np.concatenate(samples) for samples in made]

    def _decode_blocks(self, parts: Sequence[Part]) -> list[list[Floats]]:
        """At most BLOCK_FRAMES frames of each part."""
        for part in parts:
            codes = self._codes[part.lane]
            if not codes.known:
                self._memory[:, :, part.lane] = 0
            codes.append(torch.from_numpy(part.codes).to(self.device))
        reach = self._entrance
        seams = [self._codes[part.lane].take(reach.left, reach.right, part.last) for part in parts]
        for group in alike(seams):
            self._remember([parts[i].lane for i in group], [seams[i] for i in group])
        seams = [self._states[part.lane].take(self._behind, self._ahead, part.last) for part in parts]
        made: list[list[Floats]] = [[] for _ in parts]
        for group in alike(seams):
            for index, samples in zip(group, self._sound([seams[i] for i in group]), strict=True):
                made[index].append(samples)
        return made

    def _remember(self, lanes: list[int], seams: Sequence[Seam]) -> None:
        """Codes through the first convolution and the LSTM, to the lanes' states."""
        codes = torch.stack([seam.frames for seam in seams])  # [lanes, codebooks, frames]
        frames = torch.zeros(1, device=self.device)
        for index, book in enumerate(self.codebooks):
            frames = frames + book[codes[:, index]]
        first, count = seams[0].skip, seams[0].count
        x = self.conv(frames.transpose(1, 2), self.seanet.first)[..., first : first + count].transpose(1, 2)
        memory = self._memory[:, :, lanes]
        states, (hidden, cell) = self.lstm(x.contiguous(), (memory[0], memory[1]))
        self._memory[:, :, lanes] = torch.stack([hidden, cell])
        for lane, state in zip(lanes, (states + x).transpose(1, 2), strict=True):
            self._states[lane].append(state)

    def _sound(self, seams: Sequence[Seam]) -> Floats:
        """States to samples, [lanes, samples]."""
        x = torch.stack([seam.frames for seam in seams])
        for stage in self.seanet.stages:
            weight, stride = stage.resample.weight, stage.resample.weight.shape[2] // 2
            raised = functional.conv_transpose1d(functional.elu(x), weight, stage.resample.bias, stride=stride)
            late = stride // 2
            x = self.residuals(raised[..., stride - late : raised.shape[-1] - late], stage.residuals)
        samples = self.conv(functional.elu(x), self.seanet.last)[:, 0]
        first, count = (frames * self.geometry.hop for frames in (seams[0].skip, seams[0].count))
        return samples[:, first : first + count].cpu().numpy()
