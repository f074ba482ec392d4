"""Regions by a network for face parsing (BiSeNet, Yu et al. 2018, as trained on CelebAMask-HQ's 19 classes), in ONNX.

The network looks at a square around the face. Coverage, background plate and everything outside of the square stay
those of the parser that follows the rig.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from avatar.core import Camera, MotionFrame, Region
from avatar.errors import InputError
from avatar.face.matting import Plate
from avatar.face.parsing import ParsedFrame, Parser
from avatar.face.rig import PersonalRig

_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
"""ImageNet's, for RGB in [0, 1]."""
_SIDE = 512
_CROP = 1.9
"""Side of the square in face heights (forehead to chin), which CelebAMask-HQ's pictures have."""
_RAISE = 0.05
"""Part of the square by which its centre lies above the face's."""
_KEEP = 255
_REGIONS: UInt8[np.ndarray, "19"] = np.array(
    [
        *(_KEEP, Region.SKIN, Region.BROWS, Region.BROWS, Region.EYES, Region.EYES, _KEEP),
        *(Region.EARS, Region.EARS, Region.EARS, Region.NOSE, Region.MOUTH, Region.LIPS, Region.LIPS),
        *(Region.NECK, Region.NECK, Region.TORSO, Region.HAIR, Region.HAIR),
    ],
    np.uint8,
)
"""Of background, skin, left and right brow, left and right eye, glasses, left and right ear, ear ring, nose, mouth,
upper and lower lip, neck, necklace, cloth, hair, hat. Background and glasses keep what the rig's parser says."""


class ClipParser(Protocol):
    """Parses the frames of one clip in two passes, as `parsing.Parser` does."""

    @property
    def survey_indices(self) -> Iterable[int]: ...

    @property
    def plate(self) -> Plate: ...

    def survey(self, index: int, frame: np.ndarray, mask: np.ndarray, motion: MotionFrame | None, /) -> None: ...

    def parse(
        self, frame: np.ndarray, mask: np.ndarray, motion: MotionFrame, landmarks_px: np.ndarray | None, /
    ) -> ParsedFrame: ...


class FaceParsingNetwork:
    """A network file run by onnxruntime on the CPU; may be used by several threads."""

    def __init__(self, path: Path) -> None:
        """Args: `path` is an .onnx file: RGB [1 3 h w], normalised as ImageNet, to scores [1 19 h w].

        Raises:
            InputError: if onnxruntime is missing or the file is none.
        """
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError:
            raise InputError("a learned parser needs onnxruntime; pip install onnxruntime") from None
        if not Path(path).is_file():
            raise InputError(f"{path}: file is missing; give an .onnx file of a face parser with 19 classes")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # frames run side by side
        try:
            session: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _failures() as error:
            raise InputError(f"{path}: no readable ONNX network ({str(error)[:120]}); download it again") from None
        self._session, self._name = session, Path(path).name
        entry = session.get_inputs()[0]
        self._entry, self._size = entry.name, _size_of(entry.shape, self._name)

    def classes(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
        """The class of each pixel of a picture of a face.

        Raises:
            InputError: if the network does not tell 19 classes.
        """
        import cv2

        height, width = self._size
        scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        values = (scaled.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        try:
            scores = self._session.run(None, {self._entry: values.transpose(2, 0, 1)[None]})[0]
        except _failures() as error:
            raise InputError(f"{self._name}: fails on a picture ({str(error)[:120]}); give another network") from None
        if scores.ndim != 4 or scores.shape[:2] != (1, len(_REGIONS)):
            raise InputError(
                f"{self._name}: gives an array of shape {scores.shape}; a face parser gives scores [1 19 h w]"
            )
        size = (picture.shape[1], picture.shape[0])
        planes = [
            cv2.resize(np.asarray(plane, np.float32), size, interpolation=cv2.INTER_LINEAR) for plane in scores[0]
        ]
        return np.stack(planes).argmax(0).astype(np.uint8)


class LearnedParser:
    """The rig's parser with a network's labels around the face."""

    def __init__(self, network: FaceParsingNetwork, rig: PersonalRig, camera: Camera, frames: int) -> None:
        self._network, self._base = network, Parser(rig, camera, frames)

    @property
    def survey_indices(self) -> Iterable[int]:
        """Frames to survey first."""
        return self._base.survey_indices

    @property
    def plate(self) -> Plate:
        """As `Parser.plate`."""
        return self._base.plate

    def survey(self, index: int, frame: np.ndarray, mask: np.ndarray, motion: MotionFrame | None, /) -> None:
        """As `Parser.survey`."""
        self._base.survey(index, frame, mask, motion)

    def parse(
        self, frame: np.ndarray, mask: np.ndarray, motion: MotionFrame, landmarks_px: np.ndarray | None, /
    ) -> ParsedFrame:
        """As `Parser.parse`; where no face was found it is the same."""
        parsed = self._base.parse(frame, mask, motion, landmarks_px)
        if landmarks_px is None:
            return parsed
        left, top, side = square_around(landmarks_px)
        regions = _REGIONS[self._network.classes(_cut(frame, left, top, side))]
        labels = parsed.labels.copy()
        a, b = max(top, 0), max(left, 0)
        here = labels[a : top + side, b : left + side]
        said = regions[a - top :, b - left :][: here.shape[0], : here.shape[1]]
        use = (said != _KEEP) & (here != Region.BACKGROUND)
        here[use] = said[use]
        return ParsedFrame(labels=labels, alpha=parsed.alpha)


def square_around(landmarks_px: Float[np.ndarray, "478 2"]) -> tuple[int, int, int]:
    """(left, top, side) of the part of the picture that the network looks at."""
    forehead, chin = landmarks_px[10], landmarks_px[152]
    side = max(round(_CROP * float(np.linalg.norm(chin - forehead))), 16)
    x, y = (forehead + chin) / 2 - np.array([0, _RAISE * side])
    return round(float(x) - side / 2), round(float(y) - side / 2), side


def _cut(frame: np.ndarray, left: int, top: int, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """A square of the frame, its edge continued outside."""
    height, width = frame.shape[:2]
    rows = np.arange(top, top + side).clip(0, height - 1)
    columns = np.arange(left, left + side).clip(0, width - 1)
    return np.ascontiguousarray(frame[rows[:, None], columns])


def _size_of(shape: Any, name: str) -> tuple[int, int]:
    if len(shape) != 4 or (shape[1] not in (3, None) and not isinstance(shape[1], str)):
        raise InputError(f"{name}: takes arrays of shape {list(shape)}; a face parser takes pictures [1 3 h w]")
    height, width = (n if isinstance(n, int) and n > 0 else _SIDE for n in shape[2:])
    return height, width


def _failures() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own kinds, which have no common base but Exception."""
    try:
        state: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    except ImportError:
        return (RuntimeError, ValueError)
    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (RuntimeError, ValueError, *own)
