"""What a user may put in place of the usual head model, detector and parser: `kind`, or `kind:FILE`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from avatar.errors import InputError
from avatar.events import Notice, Sink
from avatar.media.download import RemoteFile, fetched
from avatar.media.files import sha256
from avatar.preprocess.config import PreprocessConfig
from avatar.preprocess.tools import Tools


@dataclass(frozen=True, kw_only=True)
class _Given:
    """One choice as the user wrote it."""

    option: str
    kind: str
    file: Path | None
    sink: Sink

    def needed_file(self, what: str) -> Path:
        if self.file is None:
            raise InputError(f"--{self.option} {self.kind}: needs {what}; write --{self.option} {self.kind}:FILE")
        if not self.file.is_file():
            raise InputError(f"--{self.option} {self.kind}: {self.file} is missing; give {what}")
        return self.file

    def without_file(self) -> None:
        if self.file is not None:
            raise InputError(f"--{self.option} {self.kind}: takes no file; write --{self.option} {self.kind}")

    def key(self, *files: Path) -> str:
        """What results depend on: the kind and the files' contents, not where they lie."""
        return " ".join([self.kind, *(sha256(file) for file in files)])


def tools_for(config: PreprocessConfig, sink: Sink) -> Tools:
    """The tools that a user has chosen.

    Raises:
        InputError: if a choice is unknown, or its file missing or unusable.
    """
    tools = Tools()
    landmarks = Path(config.rig_landmarks).expanduser() if config.rig_landmarks else None
    tools = _chosen(_RIGS, _given("rig", config.rig, sink))(tools, landmarks)
    tools = _chosen(_DETECTORS, _given("detector", config.detector, sink))(tools)
    return _chosen(_PARSERS, _given("parser", config.parser, sink))(tools)


def _given(option: str, text: str, sink: Sink) -> _Given:
    kind, _, file = text.partition(":")
    return _Given(option=option, kind=kind, file=Path(file).expanduser() if file else None, sink=sink)


def _chosen(choices: dict[str, Callable[..., Tools]], given: _Given) -> Callable[..., Tools]:
    if given.kind not in choices:
        raise InputError(f"--{given.option} {given.kind}: is none of {', '.join(choices)}; choose one of them")
    return partial(choices[given.kind], given)


def _with(tools: Tools, given: _Given, files: tuple[Path, ...], **parts: Any) -> Tools:
    return replace(tools, keys={**tools.keys, given.option: given.key(*files)}, **parts)


def _anny(given: _Given, tools: Tools, landmarks: Path | None) -> Tools:
    given.without_file()
    if landmarks is not None:
        raise InputError("--rig-landmarks: the anny rig has its own; leave it out, or choose --rig flame:FILE")
    return tools


def _flame(given: _Given, tools: Tools, landmarks: Path | None) -> Tools:
    from avatar.face.flame import read_flame

    file = given.needed_file("FLAME's generic_model.pkl or flame2023.pkl")
    return _morphable(given, tools, (file, landmarks), read_flame)


def _bfm(given: _Given, tools: Tools, landmarks: Path | None) -> Tools:
    from avatar.face.bfm import read_bfm

    file = given.needed_file("01_MorphableModel.mat or model2017-1_*.h5")
    if landmarks is not None:
        raise InputError("--rig-landmarks: only FLAME's triangles are kept as they are; leave it out")
    return _morphable(given, tools, (file, None), read_bfm)


def _morphable(given: _Given, tools: Tools, files: tuple[Path, Path | None], read: Callable[[Path], Any]) -> Tools:
    from avatar.face.flame import read_embedding
    from avatar.face.morphable import as_rig
    from avatar.face.rig import AnnyRig

    file, landmarks = files
    model, embedding = read(file), read_embedding(landmarks) if landmarks else None  # a wrong file is told at once

    @cache
    def family() -> Any:
        rig = as_rig(model, AnnyRig.load(), embedding)
        own = sum(share >= rig.NATIVE for share in rig.explained.values())
        given.sink(Notice(message=f"{file.name}: {own} of 52 actions are its own, the others are carried over"))
        return rig

    return _with(tools, given, (file,) if landmarks is None else (file, landmarks), family=family)


def _mediapipe(given: _Given, tools: Tools) -> Tools:
    given.without_file()
    return tools


def _face_landmarker(given: _Given, tools: Tools) -> Tools:
    from avatar.face.both_ways import BothWaysDetector
    from avatar.face.face_landmarker import ADDRESS, SHA256, SIZE, FaceLandmarkerDetector

    remote = RemoteFile(url=ADDRESS, size=SIZE, sha256=SHA256, name="face_landmarker.task")
    file = fetched(remote, sink=given.sink) if given.file is None else given.needed_file("face_landmarker.task")
    live = partial(FaceLandmarkerDetector, file)
    return _with(tools, given, (file,), detector=partial(BothWaysDetector, live), live_detector=live)


def _face_alignment(given: _Given, tools: Tools) -> Tools:
    from avatar.face.sparse_landmarks import FaceAlignmentDetector

    given.without_file()
    return _with(tools, given, (), detector=FaceAlignmentDetector, live_detector=FaceAlignmentDetector)


def _rig_parser(given: _Given, tools: Tools) -> Tools:
    given.without_file()
    return tools


def _bisenet(given: _Given, tools: Tools) -> Tools:
    from avatar.face.learned_parsing import FaceParsingNetwork, LearnedParser

    file = given.needed_file("an .onnx file of a face parser with CelebAMask-HQ's 19 classes")
    given.sink(Notice(message=f"parser {file.name}, sha256 {sha256(file)}"))
    network = FaceParsingNetwork(file)
    return _with(tools, given, (file,), parser=partial(LearnedParser, network))


_RIGS: dict[str, Callable[..., Tools]] = {"anny": _anny, "flame": _flame, "bfm": _bfm}
_DETECTORS: dict[str, Callable[..., Tools]] = {
    "mediapipe": _mediapipe,
    "face-landmarker": _face_landmarker,
    "face-alignment": _face_alignment,
}
_PARSERS: dict[str, Callable[..., Tools]] = {"rig": _rig_parser, "bisenet": _bisenet}
