"""For other programs: motion that was tracked in a clip or that an avatar performs, and the avatar's splats."""

from pathlib import Path

import torch

from avatar.core import MotionFrame, MotionSequence
from avatar.drive.motion_gltf import write_motion_glb
from avatar.drive.motion_io import check_suffix, write_motion
from avatar.drive.retarget import relative
from avatar.drive.sources import from_file, placed, resting
from avatar.drive.splat_files import PLY, SPZ, write_splats
from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.models.avatar_model import AvatarModel

RIG = ".glb"


def export(source: Path, out: Path, motion: Path | None = None, at: float | None = None) -> list[Path]:
    """Write what `out`'s suffix says: splats as .ply or .spz, otherwise motion, or both as .glb where `at` is given.

    Args:
        source: a folder of build or preprocess, or an avatar.
        motion: a motion file in place of the tracked motion.
        at: seconds into the motion, at which splats are taken; None is the resting face.

    Returns:
        The files that were written.

    Raises:
        InputError: when `source` lacks what is asked for, or a file cannot be read or written.
    """
    source, out = Path(source), Path(out)
    if out.suffix.lower() in (PLY, SPZ):
        _export_splats(source, out, motion, at)
        return [out]
    rig = out if at is None else out.with_name(f"{out.stem}-rig{out.suffix}")
    if at is not None:
        if out.suffix.lower() != RIG:
            raise InputError(f"{out}: --at writes splats; choose .ply, .spz or .glb")
        _export_splats(source, out, motion, at)
    export_motion(source, rig, motion)
    return [rig] if at is None else [out, rig]


def _export_splats(source: Path, out: Path, motion: Path | None, at: float | None) -> None:
    avatar = AvatarModel.load(_avatar_folder(source))
    frame = avatar.meta.rest
    if at is not None:
        posed = _tracked(source)[0] if motion is None else placed(from_file(motion), avatar)
        index = round(at * posed.fps)
        if not 0 <= index < len(posed):
            raise InputError(f"--at {at:g}: the motion is {len(posed) / posed.fps:.2f} s long; choose a time within it")
        frame = posed.frame(index)
    elif motion is not None:
        raise InputError("--motion without --at: splats show one moment; say which with --at SECONDS")
    with torch.no_grad():
        write_splats(avatar.backbone.pose(frame), out)


def export_motion(source: Path, out: Path, motion: Path | None = None) -> None:
    """Write motion as `out`'s suffix says: .csv (Live Link Face), .npz, .safetensors, or .glb with the rig.

    Args:
        source: a prepared workspace, whose tracked motion is written; or an avatar, which performs `motion`.

    Raises:
        InputError: when `source` has no motion and none is given, or a file cannot be read or written.
    """
    source, out = Path(source), Path(out)
    if out.suffix.lower() != RIG:
        check_suffix(out, also=(RIG, PLY, SPZ))
    posed, rest, rig = _tracked(source) if motion is None else _performed(source, motion)
    if out.suffix.lower() == RIG:
        write_motion_glb(posed, rig, out, rest=rest)
    else:
        write_motion(relative(posed, rest, rig.neck_pivots), out)


def _tracked(workspace: Path) -> tuple[MotionSequence, MotionFrame, PersonalRig]:
    if not (workspace / "track.safetensors").is_file():
        raise InputError(
            f"{workspace}: holds no tracked motion; give a folder that `avatar preprocess` made, or --motion FILE"
        )
    track = load_track(workspace / "track.safetensors")
    return track.motion, resting(track), PersonalRig.load(workspace / "rig.safetensors")


def _performed(source: Path, motion: Path) -> tuple[MotionSequence, MotionFrame, PersonalRig]:
    avatar = AvatarModel.load(_avatar_folder(source))
    return placed(from_file(motion), avatar), avatar.meta.rest, avatar.rig


def _avatar_folder(source: Path) -> Path:
    return source if (source / "avatar.json").exists() else source / "avatar"
