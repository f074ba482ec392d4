"""The command line: wiring only. Each command reads its options, calls one function and listens to its events."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from avatar.console import Console
from avatar.errors import InputError

if TYPE_CHECKING:
    from avatar.drive.speak import Script
    from avatar.events import Sink
    from avatar.preprocess import PreprocessConfig

Output = Annotated[Path, arg(aliases=["-o"])]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], arg(help="Where to train: auto is a GPU if our CUDA kernels run there.")
]
Recipe = Literal[
    "gaussian/base", "gaussian/best", "gaussian/fast", "gaussian/smoke",
    "field/base", "field/fast", "field/smoke", "field/geneface", "field/synctalk",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Build:
    """Turn a video into an avatar: preprocess, train, evaluate. Run it again to resume."""

    video: Positional[Path]
    """A few seconds to a few minutes of one person, head and shoulders, talking."""
    out: Output
    """Folder for everything; OUT/avatar is the avatar, OUT/report/index.html the report."""
    recipe: Recipe = "gaussian/base"
    """base takes minutes, fast less, smoke only shows that it works; docs/field.md says when to take a field."""
    size: int = 512
    """Longest side of the working picture in pixels."""
    rig: str = "anny"
    """Head model: anny, or flame:FILE or bfm:FILE from a file that you have (docs/face-models.md)."""
    rig_landmarks: str = ""
    """With FLAME: its mediapipe_landmark_embedding.npz; without it landmarks are carried over from anny."""
    detector: str = "mediapipe"
    """Landmarks by mediapipe, face-landmarker (downloads 4 MB once; or face-landmarker:FILE) or face-alignment."""
    parser: str = "rig"
    """Regions by rig, or by a network: bisenet:FILE.onnx."""
    device: Device = "auto"

    def run(self, console: Console) -> None:
        from avatar.build import Learning, build

        learning = Learning(recipe=self.recipe, device=self.device)
        build(self.video, self.out, learning=learning, config=_preprocessing(self), sink=console)
        _say(f"avatar: {self.out / 'avatar'}\nreport: {self.out / 'report' / 'index.html'}")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Only the first part of build: frames, landmarks, head tracking, parsing maps, plate, sound, quality."""

    video: Positional[Path]
    """The video of the person."""
    out: Output
    """The workspace folder."""
    size: int = 512
    """Longest side of the working picture in pixels."""
    rig: str = "anny"
    """Head model: anny, or flame:FILE or bfm:FILE from a file that you have (docs/face-models.md)."""
    rig_landmarks: str = ""
    """With FLAME: its mediapipe_landmark_embedding.npz; without it landmarks are carried over from anny."""
    detector: str = "mediapipe"
    """Landmarks by mediapipe, face-landmarker (downloads 4 MB once; or face-landmarker:FILE) or face-alignment."""
    parser: str = "rig"
    """Regions by rig, or by a network: bisenet:FILE.onnx."""

    def run(self, console: Console) -> None:
        from avatar.build import preprocess_video

        preprocess_video(self.video, self.out, _preprocessing(self), console)
        _say(f"workspace: {self.out}")


@dataclass(frozen=True, kw_only=True)
class Train:
    """Only the second part of build: learn the avatar from a prepared workspace."""

    workspace: Positional[Path]
    """The folder that preprocess made."""
    recipe: Recipe = "gaussian/base"
    """base takes minutes, fast less, smoke only shows that it works; docs/field.md says when to take a field."""
    device: Device = "auto"
    viewer: bool = False
    """Show the curves and the avatar, from any side, in the browser while it learns."""

    def run(self, console: Console) -> None:
        from avatar.build import Learning, train_workspace

        learning = Learning(recipe=self.recipe, device=self.device)
        if self.viewer and not _follows():
            _watched(lambda sink: train_workspace(self.workspace, learning, sink), console)
        else:
            train_workspace(self.workspace, learning, console)
        _say(f"avatar: {self.workspace / 'avatar'}")


@dataclass(frozen=True, kw_only=True)
class Distil:
    """Turn the field of a build into a Gaussian avatar, which is faster and can be exported; says what it lost."""

    workspace: Positional[Path]
    """The folder that build made with a field recipe."""
    out: Output
    """Folder of the new avatar."""
    recipe: Literal["gaussian/base", "gaussian/best", "gaussian/fast", "gaussian/smoke"] = "gaussian/fast"
    """How the Gaussians are trained."""
    device: Device = "auto"

    def run(self, console: Console) -> None:
        from avatar.build import Learning, distil_workspace

        learning = Learning(recipe=self.recipe, device=self.device)
        lost = distil_workspace(self.workspace, self.out, learning, console)
        _say(
            f"avatar: {self.out}\n"
            f"held-out frames: {lost.pupil_psnr:.2f} dB against the film, the field has {lost.teacher_psnr:.2f} dB; "
            f"{lost.kept_psnr:.2f} dB against the field\n"
            f"frames a second here: {lost.pupil_fps:.1f}, the field has {lost.teacher_fps:.1f}"
        )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Only the last part of build: score the avatar on the part of the clip that training never saw."""

    workspace: Positional[Path]
    """The folder that build made."""
    json: Path | None = None
    """Also write the numbers to this file."""

    def run(self, console: Console) -> None:
        from avatar.build import evaluate_workspace

        evaluate_workspace(self.workspace, copy_to=self.json, sink=console)
        _say(f"report: {self.workspace / 'report' / 'index.html'}")


@dataclass(frozen=True, kw_only=True)
class Drive:
    """Make an avatar speak a sound file or a text, in any voice and language, listen, or perform a motion file."""

    avatar: Positional[Path]
    """The avatar folder."""
    audio: Path | None = None
    """Any file with sound; the lips follow it, unless --motion moves them."""
    text: str = ""
    """What to say, instead of a sound file."""
    voice: str = "espeak"
    """Who reads the text: espeak, piper:VOICE.onnx or kokoro:MODEL.onnx:VOICES.bin:NAME (docs/speech.md)."""
    language: str = "en"
    """Of the text."""
    listen: Path | None = None
    """Another's voice, in time with --audio: the avatar listens to it while it is silent itself."""
    motion: Path | None = None
    """A recording of Live Link Face (.csv), or what `avatar export` wrote (.csv, .npz, .safetensors, .glb)."""
    out: Output
    """The video to write: .mp4, or .mov/.webm for --background transparent."""
    emotion: tuple[str, ...] = ()
    """Any of joy surprise fear sadness disgust anger contempt calm, as joy, joy=0.6 or surprise=0.5@upper (regions:
    face, upper, lower, brows, eyes, cheeks, mouth); several mix."""
    mouth: float = 1.0
    """Factor on how far the mouth opens."""
    head: float = 1.0
    """Factor on the motion of head and body."""
    expression: float = 1.0
    """Factor on brows, smiles and emotions."""
    camera: Literal["front", "orbit"] = "front"
    """front is where the person was filmed from; orbit swings to both sides."""
    background: str = "plate"
    """plate (the clip's own), a colour such as white or #20a060, a picture file, or transparent."""
    size: int | None = None
    """Height of the picture in pixels; the avatar's own by default."""
    seed: int = 0
    """Changes blinks, glances and head movements, not the lips."""

    def run(self, console: Console) -> None:
        from avatar.build import drive_avatar, perform_motion
        from avatar.drive.render import Shot

        shot = Shot(camera=self.camera, background=self.background, size=self.size)
        gains = (self.mouth, self.head, self.expression) != (1.0, 1.0, 1.0)
        if self.motion is not None and (self.text or self.listen or self.emotion or gains):
            what = "--text, --listen, --emotion, --mouth, --head and --expression"
            raise InputError(f"--motion moves the whole face; leave out {what}")
        if self.motion is not None:
            perform_motion(self.avatar, self.motion, self.out, audio=self.audio, shot=shot, sink=console)
        elif self.audio is not None or self.text or self.listen is not None:
            drive_avatar(self.avatar, _script(self), self.out, shot=shot, sink=console)
        else:
            raise InputError("nothing to perform; give --audio SOUND, --text WORDS or --listen SOUND, or --motion FILE")
        _say(f"video: {self.out}")


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write files for other programs: motion (Live Link Face CSV, .npz), the head as animated glTF, or the splats."""

    source: Positional[Path]
    """A folder of build or preprocess, whose tracked motion is written; or an avatar that performs --motion."""
    out: Output
    """.csv, .npz or .safetensors for the motion, .glb for the head with 52 morph targets and the motion; .ply or .spz
    for the splats of one moment, which viewers of Gaussian splats open."""
    motion: Path | None = None
    """A motion file instead of the tracked motion."""
    at: float | None = None
    """Seconds into the motion at which the splats are taken (the resting face by default); with .glb it writes the
    splats (KHR_gaussian_splatting) and the head with its motion beside them."""

    def run(self, console: Console) -> None:
        del console
        from avatar.build import export

        for path in export(self.source, self.out, motion=self.motion, at=self.at):
            _say(f"written: {path}")


@dataclass(frozen=True, kw_only=True)
class TrackLive:
    """Record your face from a camera as motion for --motion or other programs; each picture is followed as it comes."""

    source: Positional[str]
    """Number of the camera (0 is the first), or a film that stands in for one."""
    out: Output
    """.csv (Live Link Face), .npz or .safetensors."""
    seconds: float = 20.0
    """How long at most. The person is learned from the first 3 s: blink, and say some words."""

    def run(self, console: Console) -> None:
        from avatar.build import record_live

        record_live(self.source, self.out, seconds=self.seconds, sink=console)
        _say(f"written: {self.out}")


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Draw a synthetic speaker, build its avatar and make it talk: the whole job with nobody's face."""

    out: Output = Path("demo")
    """Folder for everything."""
    seconds: float = 24.0
    """Length of the drawn clip."""
    size: int = 384
    """Side of the drawn clip in pixels."""
    recipe: Recipe = "gaussian/fast"
    """base takes minutes, fast less, smoke only shows that it works; docs/field.md says when to take a field."""

    def run(self, console: Console) -> None:
        from avatar.build import demo

        demo(self.out, seconds=self.seconds, size=self.size, recipe=self.recipe, sink=console)
        page = self.out / "me" / "report" / "index.html"
        _say(f"look at {self.out / 'talking.mp4'}, {self.out / 'orbit.mp4'} and {page}")


@dataclass(frozen=True, kw_only=True)
class View:
    """Open the viewer in the browser: see an avatar from any side, move its face, make it talk. Ends with Ctrl-C."""

    avatar: Positional[Path]
    """An avatar folder, or the folder of build that holds it (then the film can be compared)."""
    port: int = 8080
    """0 takes any that is free."""
    host: str = "127.0.0.1"
    """The address to listen on; any but this machine's own needs --share."""
    share: bool = False
    """Let others in who have the link with its token."""
    open: bool = True
    """Also open the page in this machine's browser."""

    def run(self, console: Console) -> None:
        import webbrowser

        from avatar.viewer.app import view

        def ready(address: str) -> None:
            _say(f"viewer: {address}\nCtrl-C ends it")
            sys.stdout.flush()
            if self.open:
                webbrowser.open(address)

        view(self.avatar, host=self.host, port=self.port, share=self.share, ready=ready)


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine can do, and what is missing."""

    json: bool = False
    """Print JSON instead of lines."""

    def run(self, console: Console) -> None:
        del console
        from avatar import doctor

        findings = doctor.examine()
        _say(json.dumps(doctor.as_json(findings), indent=1) if self.json else doctor.as_text(findings))


def _preprocessing(command: Build | Preprocess) -> "PreprocessConfig":
    from avatar.preprocess import PreprocessConfig

    return PreprocessConfig(
        size=command.size,
        rig=command.rig,
        rig_landmarks=command.rig_landmarks,
        detector=command.detector,
        parser=command.parser,
    )


def _script(command: Drive) -> "Script":
    from avatar.drive.speak import Script
    from avatar.speech.emotion import Feeling
    from avatar.speech.style import Direction

    feelings = tuple(Feeling.read(text) for text in command.emotion)
    return Script(
        audio=command.audio,
        text=command.text,
        voice=command.voice,
        language=command.language,
        listen=command.listen,
        direction=Direction(mouth=command.mouth, head=command.head, expression=command.expression, feelings=feelings),
        seed=command.seed,
    )


Command = Build | Preprocess | Train | Distil | Evaluate | Drive | Export | TrackLive | View | Demo | Doctor


def main(argv: list[str] | None = None) -> None:
    """Entry point of `avatar`. Exit code 2 for what the user can mend, 130 for Ctrl-C."""
    # Threads that wait must sleep: spinning at OpenMP's barriers made training 7 times slower beside another program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # NumPy's matrices here are small: its threads made the head's tracking 2 to 7 times slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    command = tyro.cli(Command, prog="avatar", args=argv, description=__import__("avatar").__doc__)  # type: ignore[call-overload]
    console = Console(quiet=_follows())
    sys.exit(_guarded(lambda: _run(command, console), console))


def _run(command: "Command", console: Console) -> None:
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and not isinstance(command, Build | Train | Distil):
        raise InputError("torchrun is for build, train and distil; start this command by itself")
    command.run(console)


def _follows() -> bool:
    """Whether torchrun started this process beside another, who speaks for all."""
    return int(os.environ.get("RANK") or 0) > 0


def _guarded(work: Callable[[], None], console: Console) -> int:
    try:
        work()
    except InputError as error:
        console.close()
        sys.stderr.write(f"avatar{', process ' + os.environ['RANK'] if _follows() else ''}: {error}\n")
        return 2
    except KeyboardInterrupt:
        console.close()
        if not _follows():
            sys.stderr.write("avatar: stopped; run the same command again to go on from here\n")
        return 130
    finally:
        console.close()
    return 0


def _watched(work: "Callable[[Sink], None]", console: Console) -> None:
    """Do work that a page in the browser follows."""
    from avatar.viewer.training import TrainingWatch

    watch = TrainingWatch(console)
    watch.open(0, lambda address: _say(f"watch it at {address}"))
    sys.stdout.flush()
    try:
        work(watch)
    finally:
        watch.close()


def _say(text: str) -> None:
    if not _follows():
        sys.stdout.write(text + "\n")
