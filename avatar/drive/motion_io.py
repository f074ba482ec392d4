"""Motion files: .npz and .safetensors hold everything; .csv is what Live Link Face writes (faces, head angles)."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from avatar.core import MotionSequence
from avatar.errors import InputError
from avatar.face.arkit import NAMES
from avatar.media import read_tensors, replacing, write_tensors

_FIELDS = ("expression", "T_world_head", "neck", "gaze", "torso")
_ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES = ("RightEyeYaw", "RightEyePitch", "LeftEyeYaw", "LeftEyePitch")
CSV_FPS = 60.0
"""Frame rate of a Live Link Face recording when its time codes do not tell."""


def write_motion(motion: MotionSequence, path: Path) -> None:
    """Write relative motion; the suffix decides the kind. Atomic.

    Raises:
        InputError: on an unknown suffix, or when the disk refuses.
    """
    _kind(path).write(motion, path)


def read_motion(path: Path) -> MotionSequence:
    """Read what `write_motion` or Live Link Face wrote.

    Raises:
        InputError: when the file is missing, damaged, empty or of another kind.
    """
    path = Path(path)
    kind = _kind(path)
    if not path.is_file():
        raise InputError(f"{path}: motion file is missing")
    motion = kind.read(path)
    if not len(motion) or not all(torch.isfinite(getattr(motion, name)).all() for name in _FIELDS):
        raise InputError(f"{path}: holds no motion, or numbers that are not finite; export it again")
    return motion


def _to_motion(values: dict[str, torch.Tensor], fps: float, path: Path) -> MotionSequence:
    missing = [name for name in _FIELDS if name not in values and name != "torso"]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing; this is no motion file")
    try:
        return MotionSequence(**{name: values[name].float() for name in _FIELDS if name in values}, fps=float(fps))
    except ValueError as error:
        raise InputError(f"{path}: {error}; this is no motion file") from None


def _write_safetensors(motion: MotionSequence, path: Path) -> None:
    tensors = {name: getattr(motion, name).contiguous() for name in _FIELDS}
    write_tensors(path, tensors, {"motion": json.dumps({"schema": 1, "fps": motion.fps})})


def _read_safetensors(path: Path) -> MotionSequence:
    tensors, metadata = read_tensors(path)
    try:
        fps = float(json.loads(metadata["motion"])["fps"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: does not tell its frame rate; this is no motion file") from None
    return _to_motion(tensors, fps, path)


def _write_npz(motion: MotionSequence, path: Path) -> None:
    with replacing(path) as temporary:
        np.savez(temporary, fps=motion.fps, **{name: getattr(motion, name).numpy() for name in _FIELDS})


def _read_npz(path: Path) -> MotionSequence:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: np.asarray(data[name]) for name in data.files}
        fps = float(arrays.pop("fps"))
        values = {name: torch.from_numpy(array) for name, array in arrays.items() if name in _FIELDS}
    except (OSError, BadZipFile, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not readable as motion ({error}); export it again") from None
    return _to_motion(values, fps, path)


def _write_csv(motion: MotionSequence, path: Path) -> None:
    """Live Link Face's columns: time code, 52 coefficients, head and eye angles in radians (head translation is lost).

    Yaw turns to the person's left, pitch down, roll to the person's left shoulder.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [name[0].upper() + name[1:] for name in NAMES]
    table.writerow(["Timecode", "BlendShapeCount", *names, *_ANGLES, *_EYES])
    turn = Rotation.from_matrix(motion.T_world_head[:, :3, :3].numpy()).as_euler("YXZ")
    angles = np.stack([-turn[:, 0], turn[:, 1], turn[:, 2]], axis=1)
    gaze = motion.gaze.flatten(1).numpy()
    for i in range(len(motion)):
        row = [*motion.expression[i].tolist(), *angles[i].tolist(), *gaze[i].tolist()]
        table.writerow([_timecode(i, motion.fps), len(NAMES), *(f"{v:.6f}" for v in row)])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _read_csv(path: Path) -> MotionSequence:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable as CSV ({error})") from None
    known = {name.lower(): name for name in (rows[0] if rows else {}) if name}
    absent = [name for name in NAMES if name.lower() not in known]
    if not rows or len(absent) > 1:  # tongueOut is missing in old recordings
        raise InputError(f"{path}: is no recording of Live Link Face ({len(absent)} of 52 columns are missing)")

    def column(name: str) -> np.ndarray:
        key = known.get(name.lower())
        if key is None:
            return np.zeros(len(rows))
        try:
            return np.array([float(row[key] or 0.0) for row in rows])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: column {key} holds something else than numbers ({error})") from None

    yaw, pitch, roll = (column(name) for name in _ANGLES)
    turn = Rotation.from_euler("YXZ", np.stack([-yaw, pitch, roll], axis=1))
    pose = np.tile(np.eye(4), (len(rows), 1, 1))
    pose[:, :3, :3] = turn.as_matrix()
    gaze = np.stack([column(name) for name in _EYES], axis=1).reshape(-1, 2, 2)
    return MotionSequence(
        expression=torch.from_numpy(np.stack([column(n) for n in NAMES], axis=1)).float().clamp(0, 1),
        T_world_head=torch.from_numpy(pose).float(),
        neck=torch.from_numpy(turn.as_rotvec()).float(),
        gaze=torch.from_numpy(gaze).float(),
        fps=_csv_fps([row.get(known.get("timecode", ""), "") or "" for row in rows]),
    )


def _timecode(index: int, fps: float) -> str:
    second, frame = divmod(index, fps)
    hours, rest = divmod(int(second), 3600)
    return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}:{frame:06.3f}"


def _csv_fps(codes: list[str]) -> float:
    """Frames a second: the highest frame number within a second, plus one."""
    frames = []
    for code in codes:
        try:
            frames.append(float(code.split(":")[3]))
        except (IndexError, ValueError):
            return CSV_FPS
    whole = max(frames, default=0.0) + 1
    known = min((24.0, 25.0, 30.0, 48.0, 50.0, 60.0), key=lambda rate: abs(rate - whole))
    return known if len(codes) > whole and math.isclose(known, whole, abs_tol=1.01) else CSV_FPS


@dataclass(frozen=True)
class _Kind:
    write: Callable[[MotionSequence, Path], None]
    read: Callable[[Path], MotionSequence]


_KINDS = {
    ".npz": _Kind(_write_npz, _read_npz),
    ".safetensors": _Kind(_write_safetensors, _read_safetensors),
    ".csv": _Kind(_write_csv, _read_csv),
}


def check_suffix(path: Path, *, also: tuple[str, ...] = ()) -> None:
    """See early that motion can be written under this name; `also` names other kinds for the message.

    Raises:
        InputError: on an unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        raise InputError(f"{path}: unknown kind of motion file {suffix!r}; use one of {', '.join([*_KINDS, *also])}")


def _kind(path: Path) -> _Kind:
    check_suffix(path)
    return _KINDS[Path(path).suffix.lower()]
