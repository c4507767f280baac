"""YAMNet, Google's tagger of 521 sounds of AudioSet, among them some 60 genres and as many instruments.

No package brings its weights: `FOLDER` has `yamnet.tflite` (the "classification" form that takes 15,600 samples) and
`yamnet_class_map.csv`, both as TensorFlow Hub publishes them (Apache-2.0). It runs on `pip install ai-edge-litert`.
"""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import numpy as np
import numpy.typing as npt


class Yamnet:
    """Listens to a clip and says how likely each sound of AudioSet is."""

    def __init__(self, folder: Path) -> None:
        with (folder / "yamnet_class_map.csv").open(encoding="utf-8") as rows:
            self.tags = tuple(row["display_name"] for row in csv.DictReader(rows))
        litert = importlib.import_module("ai_edge_litert.interpreter")
        self._interpreter = litert.Interpreter(model_path=str(folder / "yamnet.tflite"), num_threads=2)
        self._interpreter.allocate_tensors()
        self._input, self._output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]

    def hear(self, mono: npt.NDArray[np.float32]) -> dict[str, float]:
        """The mean likelihood of each sound over windows of about a second; `mono` at 16 kHz."""
        window = int(np.prod(self._input["shape"]))
        scores = []
        for start in range(0, len(mono) - window + 1, window):
            piece = mono[start : start + window].reshape(self._input["shape"])
            self._interpreter.set_tensor(self._input["index"], piece)
            self._interpreter.invoke()
            scores.append(self._interpreter.get_tensor(self._output["index"]).reshape(-1))
        if not scores:
            raise ValueError(f"a clip of {len(mono)} samples is shorter than one window of {window}")
        return dict(zip(self.tags, np.mean(scores, 0).tolist(), strict=True))
