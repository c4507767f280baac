"""Sound as numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: [samples, channels], float32, full scale at ±1 (not yet mastered, so it may exceed that).
Pcm = npt.NDArray[np.float32]
