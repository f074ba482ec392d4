"""Training samples from a workspace: read when needed, prepared ahead by one thread, memory bounded."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import Camera, FaceTrack, MotionFrame, MotionSequence, Region
from avatar.errors import InputError
from avatar.face import arkit
from avatar.media import Workspace
from avatar.models.gaussian_view import View
from avatar.train.config import TrainConfig
from avatar.train.losses import region_weights

_AHEAD = 4
_CPU = torch.device("cpu")
_TELLING = (
    "jawOpen", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "mouthClose", "eyeBlinkLeft", "eyeBlinkRight",
    "browInnerUp",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One step's question and true answer."""

    index: int
    """Position in the training motion."""
    camera: Camera
    motion: MotionFrame
    rgb: Float[Tensor, "h w 3"]
    alpha: Float[Tensor, "h w"]
    weight: Float[Tensor, "h w"]
    background: Float[Tensor, "h w 3"]

    def each(self, change: Callable[[Tensor], Tensor]) -> "Sample":
        """The same with every tensor but the camera's changed, for example taken to a device."""
        pictures = {name: change(getattr(self, name)) for name in ("rgb", "alpha", "weight", "background")}
        return replace(self, motion=self.motion.each(change), **pictures)


class SampleSource(Protocol):
    """What a training asks."""

    def sample(self, step: int) -> Sample:
        """The sample of a step: the same for the same step."""
        ...


@dataclass(frozen=True)
class _Frame:
    rgb: np.ndarray
    alpha: np.ndarray
    labels: np.ndarray

    @property
    def bytes(self) -> int:
        return self.rgb.nbytes + self.alpha.nbytes + self.labels.nbytes


class Dataset:
    """The training frames of a workspace, with a bounded memory of decoded ones. One thread at a time."""

    def __init__(self, workspace: Workspace, track: FaceTrack, config: TrainConfig):
        """Raises: InputError if the workspace has no usable training frames."""
        self.workspace, self.config = workspace, config
        self.indices = _training_frames(workspace, track)
        self.motion = track.motion.select(self.indices)
        h, w = track.camera.size
        self.camera = track.camera.resized(h // config.shrink, w // config.shrink)
        self.chances = _chances(self.motion, config.sampling.rare)
        self._plates = {s: _shrunk(workspace.plate(), self._size(s)) for s in (1, 2)}
        self._weights = region_weights(config.loss).numpy()
        self._cache: OrderedDict[int, _Frame] = OrderedDict()
        self._used = 0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def plate(self) -> Float[Tensor, "h w 3"]:
        return _unit(self._plates[1])

    def picture(self, number: int) -> Float[Tensor, "h w 3"]:
        """Frame `number` of the clip, at the size of training."""
        return _unit(_shrunk(self.workspace.frame(number), self.camera.size))

    def views(self, count: int) -> list[View]:
        """A few varied frames: the most usual pose first, then always the one least like those taken."""
        features = _features(self.motion)
        chosen = [int((features - features.median(0).values).norm(dim=1).argmin())]
        far = (features - features[chosen[0]]).norm(dim=1)
        while len(chosen) < min(count, len(self)):
            chosen.append(int(far.argmax()))
            far = torch.minimum(far, (features - features[chosen[-1]]).norm(dim=1))
        return [self._view(i) for i in chosen]

    def rest(self) -> MotionFrame:
        """The person at rest: the quiet frame of the most usual pose, shut mouth and open eyes."""
        action = self.motion.expression[:, [arkit.INDEX[n] for n in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight")]].sum(
            1
        )
        features = _features(self.motion)[:, len(_TELLING) :]
        distance = (features - features.median(0).values).norm(dim=1)
        return self.motion.frame(int((distance + 4 * action).argmin()))

    def sample(self, step: int) -> Sample:
        """The sample of a step: the same for the same step and seed."""
        plan, random = self.config.sampling, np.random.default_rng((self.config.seed, step))
        index = int(np.searchsorted(self.chances.cumsum(), random.random()).clip(0, len(self) - 1))
        coarse = step < plan.coarse * self.config.steps
        frame, scale = self._frame(index), 2 if coarse else 1
        if coarse:
            size = self._size(2)
            frame = _Frame(
                _shrunk(frame.rgb, size), _shrunk(frame.alpha, size), _shrunk(frame.labels, size, nearest=True)
            )
        window = self._window(frame, random) if not coarse and random.random() < plan.crop_share else None
        camera = self.camera.resized(*self._size(scale))
        plate = self._plates[scale]
        if window is not None:
            rows, columns = slice(window[0], window[0] + window[2]), slice(window[1], window[1] + window[3])
            frame = _Frame(frame.rgb[rows, columns], frame.alpha[rows, columns], frame.labels[rows, columns])
            camera, plate = camera.crop(*window), plate[rows, columns]
        return Sample(
            index=index, camera=camera, motion=self.motion.frame(index), rgb=_unit(frame.rgb), alpha=_unit(frame.alpha),
            weight=torch.from_numpy(self._weights[frame.labels]), background=_unit(plate),
        )  # fmt: skip

    def _size(self, scale: int) -> tuple[int, int]:
        return self.camera.size[0] // scale, self.camera.size[1] // scale

    def _view(self, index: int) -> View:
        frame = self._frame(index)
        return View(
            rgb=_unit(frame.rgb), alpha=_unit(frame.alpha), labels=torch.from_numpy(frame.labels.copy()),
            camera=self.camera, motion=self.motion.frame(index),
        )  # fmt: skip

    def _window(self, frame: _Frame, random: np.random.Generator) -> tuple[int, int, int, int]:
        """top, left, height, width around a random pixel of the mouth, the eyes, the head or the whole person."""
        h, w = frame.alpha.shape
        height, width = min(self.config.sampling.crop, h), min(self.config.sampling.crop, w)
        kinds = ((Region.LIPS, Region.MOUTH), (Region.EYES,), tuple(Region)[1:9], tuple(Region)[1:])
        pixels = np.flatnonzero(np.isin(frame.labels, kinds[random.choice(4, p=[0.25, 0.15, 0.3, 0.3])]))
        at = int(pixels[random.integers(len(pixels))]) if len(pixels) else int(random.integers(h * w))
        top = min(max(at // w - height // 2, 0), h - height)
        left = min(max(at % w - width // 2, 0), w - width)
        return top, left, height, width

    def _frame(self, index: int) -> _Frame:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        number, size = self.indices[index], self.camera.size
        frame = _Frame(
            _shrunk(self.workspace.frame(number), size),
            _shrunk(self.workspace.alpha(number), size),
            _shrunk(self.workspace.labels(number), size, nearest=True),
        )
        self._cache[index] = frame
        self._used += frame.bytes
        while self._used > self.config.sampling.cache_mb * 1e6 and len(self._cache) > 1:
            self._used -= self._cache.popitem(last=False)[1].bytes
        return frame


def _training_frames(workspace: Workspace, track: FaceTrack) -> list[int]:
    split = workspace.json("split.json").get("train")
    if not isinstance(split, list) or not all(isinstance(i, int) and 0 <= i < len(track.motion) for i in split):
        raise InputError(f"{workspace.path('split.json')}: no list of training frames; run `avatar preprocess` again")
    kept = [i for i in split if float(track.confidence[i]) > 0]
    if len(kept) < 2:
        raise InputError(f"{workspace.root}: only {len(kept)} usable training frames; film a longer clip")
    return kept


def _shrunk(pixels: np.ndarray, size: tuple[int, int], *, nearest: bool = False) -> np.ndarray:
    """uint8 picture at another size, area-averaged unless it holds labels."""
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    kind = Image.Resampling.NEAREST if nearest else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), kind))


def _unit(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) * np.float32(1 / 255))


def _features(motion: MotionSequence) -> Float[Tensor, "t d"]:
    """What makes frames differ to the eye: head turn and place, mouth, lids, brows, gaze; each of comparable spread."""
    names = (
        "jawOpen",
        "mouthFunnel",
        "mouthPucker",
        "mouthSmileLeft",
        "mouthClose",
        "eyeBlinkLeft",
        "eyeBlinkRight",
        "browInnerUp",
    )
    actions = motion.expression[:, [arkit.INDEX[name] for name in names]]
    turn = motion.T_world_head[:, :3, 2] / 0.1
    place = motion.T_world_head[:, :3, 3] / 0.03
    return torch.cat([3 * actions, turn, place, motion.gaze.flatten(1) / 0.2], 1)


def _chances(motion: MotionSequence, rare: float) -> np.ndarray:
    """Probability of each frame, larger where few frames are like it, where the mouth is wide or an eye is shut."""
    features = _features(motion)
    nearest = torch.cdist(features, features[:: max(len(features) // 400, 1)]).sort(1).values
    lonely = nearest[:, : max(nearest.shape[1] // 20, 1)].mean(1)
    wide = motion.expression[:, arkit.INDEX["jawOpen"]]
    shut = motion.expression[:, [arkit.INDEX["eyeBlinkLeft"], arkit.INDEX["eyeBlinkRight"]]].amax(1)
    interest = sum(x.argsort().argsort().float() / max(len(x) - 1, 1) for x in (lonely, wide, shut))
    weight = 1 + rare * (torch.as_tensor(interest) / 3) ** 2 * 2
    return (weight / weight.sum()).double().numpy()


@contextmanager
def prefetched(
    dataset: SampleSource, steps: range, device: torch.device = _CPU
) -> Iterator[Iterator[tuple[int, Sample]]]:
    """The samples of coming steps in order and on a device, each prepared by one thread while earlier steps run."""

    def prepared(step: int) -> Sample:
        sample = dataset.sample(step)
        # Memory that the GPU reads by itself: the step that runs now does not wait for the copy.
        return sample.each(Tensor.pin_memory) if device.type == "cuda" else sample

    with ThreadPoolExecutor(1, "avatar-samples") as pool:
        ready = deque((step, pool.submit(prepared, step)) for step in steps[:_AHEAD])

        def items() -> Iterator[tuple[int, Sample]]:
            while ready:
                step, future = ready.popleft()
                coming = step + _AHEAD * steps.step
                if coming in steps:
                    ready.append((coming, pool.submit(prepared, coming)))
                yield step, future.result().each(lambda tensor: tensor.to(device, non_blocking=True))

        try:
            yield items()
        finally:
            pool.shutdown(cancel_futures=True)
