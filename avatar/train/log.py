"""The curve of a training on disk, beside its checkpoint, for the report."""

from dataclasses import dataclass, field
from pathlib import Path

from avatar import config
from avatar.errors import InputError
from avatar.events import Event, Metric, Sink
from avatar.media import write_json
from avatar.media.files import make_folder


@dataclass
class TrainingLog:
    """A sink that hands every event on and keeps the losses among them."""

    path: Path
    sink: Sink
    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Metric) and event.name == "loss":
            self.step.append(event.step)
            self.loss.append(round(event.value, 6))
        self.sink(event)

    def resume(self, step: int) -> None:
        """Take up what was kept of the steps before `step`; a damaged file costs the curve, not the training."""
        try:
            kept = config.load_json(self.path) if self.path.exists() else {}
        except InputError:
            kept = {}
        pairs = [(s, v) for s, v in zip(kept.get("step", []), kept.get("loss", []), strict=False) if s <= step]
        self.step, self.loss = [s for s, _ in pairs], [v for _, v in pairs]

    def save(self) -> None:
        """Write the file."""
        make_folder(self.path.parent)
        write_json(self.path, {"step": self.step, "loss": self.loss})
