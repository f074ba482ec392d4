"""A face track on disk: one .safetensors file, numbers of the clip in its metadata as JSON."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from avatar.core import Camera, FaceTrack, MotionSequence
from avatar.errors import InputError

_SCHEMA = 1
_MOTION = ("expression", "T_world_head", "neck", "gaze", "torso", "clothes")
_TENSORS = (*_MOTION[:-1], "identity", "landmarks_px", "confidence", "T_world_camera")


def save_track(track: FaceTrack, path: Path) -> None:
    """Write a track, atomically."""
    values: dict[str, torch.Tensor] = {name: getattr(track.motion, name) for name in _MOTION}
    values |= {"identity": track.identity, "landmarks_px": track.landmarks_px, "confidence": track.confidence}
    values["T_world_camera"] = track.camera.T_world_camera
    facts = {
        "schema": _SCHEMA,
        "fps": track.motion.fps,
        "focal": track.camera.focal,
        "center": track.camera.center,
        "size": track.camera.size,
    }
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file({k: v.contiguous() for k, v in values.items()}, name, metadata={"track": json.dumps(facts)})
        os.replace(name, path)  # noqa: PTH105
    finally:
        Path(name).unlink(missing_ok=True)


def load_track(path: Path) -> FaceTrack:
    """Read what `save_track` wrote.

    Raises:
        InputError: if the file is missing, damaged, no track or newer than this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("track", "{}"))
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; run preprocess again") from None
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: no readable track ({error}); run preprocess again") from None
    return _to_track(values, facts, path)


def _to_track(values: dict[str, torch.Tensor], facts: dict[str, Any], path: Path) -> FaceTrack:
    if facts.get("schema", 0) > _SCHEMA:
        raise InputError(f"{path}: made by a newer version of this program; update it")
    missing = [name for name in _TENSORS if name not in values] + [
        name for name in ("fps", "focal", "center", "size") if name not in facts
    ]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing; the file is damaged, run preprocess again")
    camera = Camera(
        T_world_camera=values["T_world_camera"],
        focal=tuple(facts["focal"]),
        center=tuple(facts["center"]),
        size=tuple(facts["size"]),
    )
    return FaceTrack(
        motion=MotionSequence(**{name: values[name] for name in _MOTION if name in values}, fps=facts["fps"]),
        identity=values["identity"],
        camera=camera,
        landmarks_px=values["landmarks_px"],
        confidence=values["confidence"],
    )
