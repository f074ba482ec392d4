"""Motion for other programs: what was tracked in a clip, or what an avatar performs, as files that they read."""

from pathlib import Path

from avatar.core import MotionFrame, MotionSequence
from avatar.drive.motion_gltf import write_motion_glb
from avatar.drive.motion_io import check_suffix, write_motion
from avatar.drive.retarget import relative
from avatar.drive.sources import from_file, placed, resting
from avatar.errors import InputError
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.models.avatar_model import AvatarModel

RIG = ".glb"


def export_motion(source: Path, out: Path, motion: Path | None = None) -> None:
    """Write motion as `out`'s suffix says: .csv (Live Link Face), .npz, .safetensors, or .glb with the rig.

    Args:
        source: a prepared workspace, whose tracked motion is written; or an avatar, which performs `motion`.

    Raises:
        InputError: when `source` has no motion and none is given, or a file cannot be read or written.
    """
    source, out = Path(source), Path(out)
    if out.suffix.lower() != RIG:
        check_suffix(out, also=(RIG,))
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
    avatar = AvatarModel.load(source if (source / "avatar.json").exists() else source / "avatar")
    return placed(from_file(motion), avatar), avatar.meta.rest, avatar.rig
