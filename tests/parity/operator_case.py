"""What the tests of bad arguments know of one operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

NAN, INF = float("nan"), float("inf")
TINY, HUGE = 1e-20, 1e10


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator with good inputs, and what to do to them."""

    name: str
    call: Callable[..., tuple[Tensor, ...]]
    tensors: Callable[[], dict[str, Tensor]]
    """Good inputs, small; those of type float are tried with gradients."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """The arguments that are no tensors."""
    empty: tuple[Callable[[dict[str, Tensor]], dict[str, Any]], ...] = ()
    """From good inputs to replacements that leave no rows or no pixels; results and gradients must be finite."""
    refused: tuple[dict[str, Any], ...] = ()
    """Replacements that must raise ValueError."""
    extremes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Values that an input may be filled with; results and gradients must be finite."""
    free_width: tuple[str, ...] = ()
    """Inputs whose last axis may have any length."""
    spreads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Outputs in which a NaN or infinity of an input may show; all others stay finite."""

    def run(self, tensors: dict[str, Tensor], **changes: Any) -> tuple[Tensor, ...]:
        """Outputs; tensors with a gradient keep it."""
        return self.call(**{**tensors, **self.others, **changes})
