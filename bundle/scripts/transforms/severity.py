"""The severity of a picture as a tensor."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform


class SeverityLabel(Transform):
    """Severity of an item -> its "label", (1,) float32; NaN where it is not graded."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        rest = {name: value for name, value in data.items() if name != "severity"}
        return rest | {"label": torch.tensor([float(data.get("severity", float("nan")))])}
