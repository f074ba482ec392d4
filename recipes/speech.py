"""Train the lips on synthesised speech: `python -m avatar.recipes.speech CORPUS WEIGHTS`, a quarter of an hour.

CORPUS is a folder made by `avatar.recipes.speech_corpus`; only synthesised speech is ever seen. One thread, any CPU;
one seed, one corpus and one machine give one file. Ctrl-C loses at most the last 200 steps: the same command with
`--start WEIGHTS` goes on from there.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avatar.errors import InputError
from avatar.events import Event, Metric, Notice, Sink
from avatar.recipes.speech_corpus import lips_of
from avatar.speech.hearing import COLUMNS, LOUDNESS, MEL, PHONE
from avatar.speech.lip_net import CURVES, DELAY, GATES, STACK, LipNet, heard
from avatar.speech.visemes import ARKIT_FROM_ARTICULATORS, LIP_GAP_MM, LIP_WIDTH_MM

HELD_OUT = ("awb", "pc_diphone", "fi-", "machac")
"""Voices that are only for checking."""
BATCH, SECONDS = 24, 4.0
LEARNING_RATE, WARM_UP = 2e-3, 100
AVERAGE = 0.998
"""Decay of the running mean of the weights, which is what is saved."""
NOISE = 0.2
"""Deviation of the noise on normal features."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """All parts one after another, 100 rows a second."""

    features: Float[Tensor, "n f"]
    lips: Float[Tensor, "n o"]
    phone: Int[Tensor, "n"]
    reach: Float[Tensor, "n"]

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features, lips, phones and style of random stretches; targets are every `STACK`-th row."""
        length = round(SECONDS * 100)
        starts = rng.integers(0, len(self.features) - length, BATCH)
        rows = torch.from_numpy(starts[:, None] + np.arange(length))
        targets = rows[:, ::STACK]
        return (
            self.features[rows].float(),
            self.lips[targets].float(),
            self.phone[targets].long(),
            self.reach[rows[:, :1]].float(),
        )


def read(folder: Path, *, held_out: bool) -> Corpus:
    """The parts of the corpus for training, or those held out.

    Raises:
        InputError: if there are none.
    """
    paths = [p for p in sorted(folder.glob("*.safetensors")) if any(v in p.name for v in HELD_OUT) == held_out]
    if not paths:
        raise InputError(f"{folder}: no parts of a corpus; run: python -m avatar.recipes.speech_corpus {folder}")
    parts = [_with_lips(load_file(path)) for path in paths]
    return Corpus(**{name: torch.cat([part.pop(name) for part in parts]) for name in list(parts[0])})


def _with_lips(part: dict[str, Tensor]) -> dict[str, Tensor]:
    lips = torch.from_numpy(lips_of(part["phone"].numpy(), part["reach"].numpy())).half()
    return {"features": part["features"], "lips": lips, "phone": part["phone"], "reach": part["reach"]}


def without_some(normal: Float[Tensor, "b t f"], rng: np.random.Generator) -> Float[Tensor, "b t f"]:
    """Some examples without bands, some without phones, some without loudness: none may be needed; all a little noisy.

    Bands are missed oftenest, for they tell one synthesiser from another, which chances of phones do less.
    """
    kept = normal + NOISE * torch.randn_like(normal)
    for columns, chance in ((MEL, 0.3), (PHONE, 0.1), (slice(LOUDNESS, COLUMNS), 0.2)):
        kept[torch.from_numpy(rng.random(len(kept)) < chance), :, columns] = 0.0
    return kept


_MILLIMETRES = torch.tensor(
    np.stack([ARKIT_FROM_ARTICULATORS[:CURVES] @ LIP_GAP_MM, ARKIT_FROM_ARTICULATORS[:CURVES] @ LIP_WIDTH_MM], axis=1),
    dtype=torch.float32,
)
"""Gap and width of the lips for the curves."""


def loss_of(raw: Float[Tensor, "b t o"], lips: Float[Tensor, "b t l"], phone: Int[Tensor, "b t"]) -> dict[str, Tensor]:
    """Squared errors of curves and of gap and width (mm), and cross-entropy of gates and phones."""
    curves, gates = lips[..., :CURVES], lips[..., CURVES:]
    error = raw[..., :CURVES] - curves
    chances = raw[..., CURVES : CURVES + GATES]
    return {
        "curves": 20.0 * error.square().mean(),
        "millimetres": 0.1 * (error @ _MILLIMETRES).square().mean(),
        "gates": 2.0 * nn.functional.binary_cross_entropy_with_logits(chances, gates),
        "phones": 1.0
        * nn.functional.cross_entropy(raw[..., CURVES + GATES :].flatten(0, 1), phone.flatten(), label_smoothing=0.05),
    }


def answer(net: LipNet, normal: Tensor, style: Tensor) -> Tensor:
    """Outputs in time with the features; `DELAY` frames at the end are lost."""
    raw, _ = net.answer(normal, style, net.start(len(normal)))
    return raw[:, DELAY:]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and from where."""

    steps: int = 7000
    seed: int = 0
    start: Path | None = None
    """Weights to go on from."""


def train(folder: Path, weights: Path, plan: Plan, sink: Sink) -> dict[str, float]:
    """Train and write the weights that were best for the voices held out; returns what those said.

    Looked at every 200 steps and at the end: a small corpus is learned by heart in time.

    Raises:
        InputError: if there is no corpus.
    """
    torch.manual_seed(plan.seed)
    rng, data, checks = np.random.default_rng(plan.seed), read(folder, held_out=False), read(folder, held_out=True)
    net = begin(data, plan.start)
    mean = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=0.01)
    best: dict[str, float] = {}
    step, spent = 0, 0.0
    while spent < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / WARM_UP, 0.5 + 0.5 * float(np.cos(np.pi * spent)))
        losses = improve(net, optimizer, data, rng)
        step += 1
        decay = min(AVERAGE, step / (step + 10))
        for name, value in net.state_dict().items():
            mean[name].lerp_(value, 1 - decay)
        spent = step / plan.steps
        if step % 50 == 0:
            for name, loss in losses.items():
                sink(Metric(stage="train", name=name, value=round(loss.item(), 4), step=step))
        if step % 200 == 0 or spent >= 1.0:
            kept = LipNet()
            kept.load_state_dict(mean)
            figures = {"steps": float(step)} | score(kept, checks)
            sink(Notice(message=json.dumps(figures)))
            if not best or figures["r_gap"] + figures["r_width"] > best["r_gap"] + best["r_width"]:
                best = figures
                keep(mean, figures, weights)
    return best


def begin(data: Corpus, start: Path | None) -> LipNet:
    """A new network that knows the mean and deviation of its inputs, or one that was saved."""
    net = LipNet()
    if start is not None:
        net.load_state_dict({name: value.float() for name, value in load_file(start).items()})
        return net
    some = heard(data.features[:: max(len(data.features) // 100_000, 1)].float())
    net.mean.copy_(some.mean(0))
    net.scale.copy_(some.std(0).clamp_min(0.02))
    return net


def improve(net: LipNet, optimizer: torch.optim.Optimizer, data: Corpus, rng: np.random.Generator) -> dict[str, Tensor]:
    """One step; returns the losses before it."""
    features, lips, phone, style = data.batch(rng)
    with torch.autocast("cpu", torch.bfloat16):
        raw = answer(net, without_some(net.normal(features), rng), style)
    losses = loss_of(raw.float(), lips[:, :-DELAY], phone[:, :-DELAY])
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return losses


def keep(mean: dict[str, Tensor], figures: dict[str, float], weights: Path) -> None:
    """Write weights in half precision, with their figures."""
    partial = weights.with_suffix(".partial")
    save_file({n: v.half().contiguous() for n, v in mean.items()}, partial, {"figures": json.dumps(figures)})
    partial.rename(weights)


def score(net: LipNet, data: Corpus) -> dict[str, float]:
    """Correlation of gap and width, and how many phones are known, on a part of the corpus."""
    rng = np.random.default_rng(1)
    features, lips, phone, style = (
        torch.cat(parts) for parts in zip(*(data.batch(rng) for _ in range(4)), strict=True)
    )
    with torch.no_grad():
        raw = answer(net, net.normal(features), style)
    made, meant = raw[..., :CURVES] @ _MILLIMETRES, lips[:, :-DELAY, :CURVES] @ _MILLIMETRES
    both = [np.corrcoef(made[..., i].flatten(), meant[..., i].flatten())[0, 1] for i in range(2)]
    known = (raw[..., CURVES + GATES :].argmax(-1) == phone[:, :-DELAY]).float().mean()
    return {"r_gap": float(both[0]), "r_width": float(both[1]), "phones": float(known)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = Plan(steps=options.steps, seed=options.seed, start=options.start)

    def show(event: Event) -> None:
        sys.stderr.write(f"{event}\n")

    try:
        train(options.corpus, options.weights, plan, show)
    except InputError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
