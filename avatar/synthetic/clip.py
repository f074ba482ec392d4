"""Write a film of the synthetic speaker with everything that is true of it: motion, identity, cameras, side views."""

import json
import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from avatar.core import Camera, MotionFrame, MotionSequence
from avatar.errors import InputError
from avatar.events import Done, Notice, Progress, Sink, silent
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.media import VideoWriter, read_image, read_tensors, write_audio, write_image, write_json, write_tensors
from avatar.media.files import make_folder
from avatar.synthetic.performance import HELLO, HOME, Performance, perform, speak
from avatar.synthetic.speaker import Speaker
from avatar.synthetic.spec import SpeakerSpec, random_spec

STAGE = "speaker"
SIDE_YAWS = (-30, -15, 15, 30)
"""Degrees around the head of the held-out cameras; positive looks from the picture's right side."""
HELD_OUT = 0.2
"""Share of the clip, at its end, that training never sees."""
_MANIFEST, _VERSION = "speaker.json", 1


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """What is drawn. `TINY` is for tests."""

    seconds: float = 24.0
    size: int = 384
    fps: float = 25.0
    seed: int = 0
    """0 is the hand-chosen person; others are drawn at random."""
    sound: bool = True
    """False: no voice is needed and the film is silent."""
    turn_deg: float = 0.0
    """How far the whole body once turns to either side, as users are told to; 0 leaves the shoulders to the front."""
    moments: int = 4
    """How many held-out moments are seen from the side."""
    strands: int = 7500
    texture: int = 1536


TINY = ClipSettings(seconds=4.0, size=160, fps=25.0, moments=1, strands=2500, texture=512)


@dataclass(frozen=True, kw_only=True)
class SpeakerFiles:
    """What `write_clip` leaves in its folder."""

    video: Path
    truth: Path
    """.safetensors, see `read_truth`."""
    views: Path
    """JSON list of held-out pictures: file, alpha, frame, yaw_deg, camera."""
    hello: Path | None
    """Another sentence in the same voice, never said in the film."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is true of a written film."""

    motion: MotionSequence
    identity: torch.Tensor
    camera: Camera
    rig: PersonalRig
    landmarks_px: torch.Tensor
    """[t l 2], where the detector's points would be without error."""


def front_camera(size: tuple[int, int]) -> Camera:
    """The static camera of the films, at the world's origin.

    Args:
        size: height, width in pixels.
    """
    focal = 2.85 * min(size)
    center = (size[1] / 2, size[0] / 2)
    return Camera(T_world_camera=torch.eye(4), focal=(focal, focal), center=center, size=size)


def side_camera(camera: Camera, yaw: float) -> Camera:
    """The camera carried around the speaker's vertical axis.

    Args:
        yaw: radians; positive moves it to the picture's right.
    """
    middle = torch.tensor([HOME[0], HOME[1], HOME[2]])
    c, s = math.cos(yaw), math.sin(yaw)
    turn = torch.tensor([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    T = torch.eye(4)
    T[:3, :3] = turn @ camera.T_world_camera[:3, :3]
    T[:3, 3] = middle + turn @ (camera.T_world_camera[:3, 3] - middle)
    return Camera(T_world_camera=T, focal=camera.focal, center=camera.center, size=camera.size)


def spec_of(seed: int) -> SpeakerSpec:
    """The person of a seed; 0 is the hand-chosen one."""
    return SpeakerSpec() if seed == 0 else random_spec(seed)


@lru_cache(maxsize=4)
def make_speaker(seed: int, strands: int, texture: int) -> Speaker:
    """The person of a seed, built once in a process."""
    return Speaker(spec_of(seed), strands=strands, texture=texture)


def write_clip(
    folder: Path, settings: ClipSettings | None = None, *, workers: int = 1, sink: Sink = silent
) -> SpeakerFiles:
    """Draw the speaker's film and its truth into `folder`; goes on where it was stopped, skips what is there.

    Args:
        workers: processes that draw; each takes some seconds to start.

    Raises:
        InputError: if the folder cannot be written, or sound is asked for and there is no voice.
    """
    settings, began = settings or ClipSettings(), time.monotonic()
    folder = Path(folder)
    make_folder(folder)
    files = SpeakerFiles(
        video=folder / "speaker.mp4",
        truth=folder / "truth.safetensors",
        views=folder / "views.json",
        hello=folder / "hello.wav" if settings.sound else None,
    )
    stamp = {"version": _VERSION, **asdict(settings)}
    manifest = folder / _MANIFEST
    if _is_current(manifest, stamp, files):
        sink(Done(stage=STAGE, seconds=0.0, outputs=(files.video,), skipped=True))
        return files
    manifest.unlink(missing_ok=True)
    rig = AnnyRig.load().personal(_identity(settings))
    s = settings
    played = perform(rig, seconds=s.seconds, fps=s.fps, seed=s.seed, sound=s.sound, turn_deg=s.turn_deg)
    camera = front_camera((settings.size, settings.size))
    _write_truth(files.truth, played, settings, camera)
    if files.hello is not None:
        write_audio(files.hello, speak((HELLO,), _HELLO_SECONDS, voice="en-us+f3")[0])
    cache = folder / f".frames-{settings.size}-{settings.seed}"
    _draw_frames(cache, stamp, played.motion, camera, workers=workers, sink=sink)
    with VideoWriter(files.video, camera.size, settings.fps, played.audio, quality=14) as writer:
        for index in range(len(played.motion)):
            writer.write(read_image(_frame_path(cache, index)))
    _write_views(files.views, settings, played.motion, camera, sink)
    write_json(manifest, stamp)
    _remove(cache)
    sink(Done(stage=STAGE, seconds=time.monotonic() - began, outputs=(files.video, files.truth, files.views)))
    return files


_HELLO_SECONDS = 6.2


def read_truth(path: Path) -> Truth:
    """Read the truth of a film.

    Raises:
        InputError: if the file is missing, damaged or no truth.
    """
    tensors, metadata = read_tensors(path)
    try:
        facts = json.loads(metadata["facts"])
        motion = MotionSequence(
            **{name: tensors[name] for name in ("expression", "T_world_head", "neck", "gaze")}, fps=facts["fps"]
        )
        camera = camera_from_json(facts["camera"])
        rig = {name[4:]: value for name, value in tensors.items() if name.startswith("rig.")}
        return Truth(
            motion=motion,
            identity=tensors["identity"],
            camera=camera,
            rig=PersonalRig.from_tensors(rig),
            landmarks_px=tensors["landmarks_px"],
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: no truth of a synthetic speaker ({error}); draw the speaker again") from None


def camera_to_json(camera: Camera) -> dict[str, object]:
    """Plain values of a camera."""
    pose = [[float(x) for x in row] for row in camera.T_world_camera]
    return {
        "T_world_camera": pose,
        "focal": list(camera.focal),
        "center": list(camera.center),
        "size": list(camera.size),
    }


def camera_from_json(data: dict) -> Camera:
    """The inverse of `camera_to_json`."""
    return Camera(
        T_world_camera=torch.tensor(data["T_world_camera"], dtype=torch.float32),
        focal=tuple(data["focal"]),
        center=tuple(data["center"]),
        size=tuple(data["size"]),
    )


def _identity(settings: ClipSettings) -> torch.Tensor:
    given = spec_of(settings.seed).identity
    out = torch.zeros(AnnyRig.load().identity_size)
    out[: len(given)] = torch.tensor(given[: len(out)])
    return out


def _is_current(manifest: Path, stamp: dict, files: SpeakerFiles) -> bool:
    needed = [files.video, files.truth, files.views, *([files.hello] if files.hello else [])]
    if not manifest.is_file() or not all(path.is_file() for path in needed):
        return False
    return json.loads(manifest.read_text()) == json.loads(json.dumps(stamp))


def _write_truth(path: Path, played: Performance, settings: ClipSettings, camera: Camera) -> None:
    family, identity = AnnyRig.load(), _identity(settings)
    rig, motion = family.personal(identity), played.motion
    points = [family.landmarks.points(rig.posed(motion.frame(i)), rig.faces) for i in range(len(motion))]
    tensors = {
        "expression": motion.expression,
        "T_world_head": motion.T_world_head,
        "neck": motion.neck,
        "gaze": motion.gaze,
        "identity": identity,
        "landmarks_px": camera.project(torch.stack(points)),
        **{f"rig.{name}": value for name, value in rig.to_tensors().items()},
    }
    facts = {"fps": motion.fps, "camera": camera_to_json(camera), "seed": settings.seed}
    write_tensors(path, tensors, {"facts": json.dumps(facts)})


def _frame_path(cache: Path, index: int) -> Path:
    return cache / f"{index:06d}.png"


def _draw_frames(cache: Path, stamp: dict, motion: MotionSequence, camera: Camera, *, workers: int, sink: Sink) -> None:
    """All frames as pictures in a folder of their own; those that are there already are kept."""
    make_folder(cache)
    told = cache / "settings.json"
    if told.is_file() and json.loads(told.read_text()) != json.loads(json.dumps(stamp)):
        _remove(cache)
        make_folder(cache)
    write_json(told, stamp)
    missing = [i for i in range(len(motion)) if not _frame_path(cache, i).is_file()]
    if len(missing) < len(motion):
        sink(Notice(message=f"{len(motion) - len(missing)} of {len(motion)} frames of the speaker were drawn before"))
    person = (int(stamp["seed"]), int(stamp["strands"]), int(stamp["texture"]))
    jobs = [(person, _frame_path(cache, i), motion.frame(i), camera) for i in missing]
    done = len(motion) - len(missing)
    sink(Progress(stage=STAGE, done=done, total=len(motion)))
    for _ in _in_parallel(jobs, workers):
        done += 1
        sink(Progress(stage=STAGE, done=done, total=len(motion)))


Job = tuple[tuple[int, int, int], Path, MotionFrame, Camera]


def _in_parallel(jobs: list[Job], workers: int) -> Iterator[None]:
    if workers <= 1 or len(jobs) < 50:
        yield from map(_draw_one, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from pool.map(_draw_one, jobs, chunksize=8)
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """One thread each; Ctrl-C is for the parent, which lets the pictures in work be finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _draw_one(job: Job) -> None:
    person, path, motion, camera = job
    write_image(path, make_speaker(*person).render(motion, camera).numpy())


def _write_views(path: Path, settings: ClipSettings, motion: MotionSequence, camera: Camera, sink: Sink) -> None:
    """Pictures of held-out moments from the side, with their opacity and cameras."""
    speaker = make_speaker(settings.seed, settings.strands, settings.texture)
    folder = path.parent / "views"
    make_folder(folder)
    first = round(len(motion) * (1 - HELD_OUT))
    moments = np.linspace(first, len(motion) - 1, settings.moments + 2)[1:-1].round().astype(int)
    listed, total = [], len(moments) * len(SIDE_YAWS)
    for frame in moments.tolist():
        for yaw in SIDE_YAWS:
            seen = side_camera(camera, math.radians(yaw))
            drawing = speaker.draw(motion.frame(frame), seen)
            name = f"{frame:06d}_{yaw:+03d}"
            write_image(folder / f"{name}.png", drawing.rgb.numpy())
            write_image(folder / f"{name}_alpha.png", (drawing.alpha * 255 + 0.5).to(torch.uint8).numpy())
            entry = {"file": f"views/{name}.png", "alpha": f"views/{name}_alpha.png", "frame": frame, "yaw_deg": yaw}
            listed.append({**entry, "camera": camera_to_json(seen)})
            sink(Progress(stage="side views", done=len(listed), total=total))
    write_json(path, listed)


def _remove(folder: Path) -> None:
    for item in folder.iterdir():
        item.unlink()
    folder.rmdir()
