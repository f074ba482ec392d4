"""One folder a subject: every file under a fixed relative name, a manifest of what made it, nothing half-written."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from avatar import config
from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.media.audio import read_audio, write_audio
from avatar.media.files import make_folder, remove_leftovers, sha256, write_bytes, write_json
from avatar.media.image import encode_image, encode_map, read_image
from avatar.media.tensors import read_tensors, write_tensors

SCHEMA = 1
_MANIFEST = "workspace.json"
_FOLDERS = {"frames": ".jpg", "masks": ".png", "parsing": ".png", "alpha": ".png"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a stage left: a file, or a folder of numbered files."""

    files: int
    bytes: int
    sha256: str
    """Of the file; for a folder of all names and contents."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """That a stage ran to its end."""

    key: str
    """Hash of all that it depended on."""
    outputs: dict[str, Output]
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """workspace.json"""

    schema: int
    name: str
    """File name of the source, without its folder."""
    source_sha256: str
    source_bytes: int
    source_mtime_ns: int
    fps: float = 0.0
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    """Height, width of the working frames."""
    stages: dict[str, Any] = field(default_factory=dict)
    begun: dict[str, str] = field(default_factory=dict)
    """Key of each stage that was started and not finished."""


class Workspace:
    """A subject's folder. Readers raise `InputError` for what is missing or damaged, and say which stage makes it."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root, self.manifest = Path(root), manifest

    @classmethod
    def open(cls, root: Path) -> "Workspace":
        """Open a prepared folder.

        Raises:
            InputError: when it is none, or was made by a newer version.
        """
        root = Path(root)
        if not (root / _MANIFEST).exists():
            raise InputError(
                f"{root}: is no workspace (no {_MANIFEST}); make it with `avatar preprocess VIDEO -o {root}`"
            )
        data = config.load_json(root / _MANIFEST)
        found = data.get("schema")
        if isinstance(found, int) and found > SCHEMA:
            raise InputError(
                f"{root}: made by a newer version (schema {found}, this one knows {SCHEMA}); update avatar"
            )
        return cls(root, config.from_dict(Manifest, data, where=str(root / _MANIFEST)))

    @classmethod
    def create(cls, root: Path, source: Path) -> "Workspace":
        """Open the folder for a source video; make it, or start over when it holds another video's manifest.

        Raises:
            InputError: when the source is missing or the folder cannot be written.
        """
        root, source = Path(root), Path(source)
        try:
            stat = source.stat()
        except OSError as error:
            raise InputError(f"{source}: cannot be read ({error.strerror}); check the name") from None
        make_folder(root)
        remove_leftovers(root)
        if (root / _MANIFEST).exists():
            old = cls.open(root)
            known = old.manifest
            if (known.source_bytes, known.source_mtime_ns, known.name) == (stat.st_size, stat.st_mtime_ns, source.name):
                return old
            if known.source_sha256 == sha256(source):
                old._save(replace(known, name=source.name, source_mtime_ns=stat.st_mtime_ns))
                return old
        elif any(root.iterdir()):
            raise InputError(f"{root}: holds other files; give an empty folder or one made by `avatar preprocess`")
        workspace = cls(root, Manifest(schema=SCHEMA, name="", source_sha256="", source_bytes=0, source_mtime_ns=0))
        workspace._save(
            replace(
                workspace.manifest,
                name=source.name,
                source_sha256=sha256(source),
                source_bytes=stat.st_size,
                source_mtime_ns=stat.st_mtime_ns,
            )
        )
        return workspace

    def _save(self, manifest: Manifest) -> None:
        write_json(self.root / _MANIFEST, config.to_dict(manifest))
        self.manifest = manifest

    def remove_if_empty(self) -> None:
        """Take the folder away again when it holds nothing but its manifest."""
        if [path.name for path in self.root.iterdir()] == [_MANIFEST]:
            (self.root / _MANIFEST).unlink()
            self.root.rmdir()

    def path(self, name: str) -> Path:
        """Where the relative `name` lies."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} leaves the workspace")
        return self.root / name

    # what a stage made ------------------------------------------------------------------------------------------

    def record(self, stage: str) -> StageRecord | None:
        """The record of a finished stage, or None."""
        data = self.manifest.stages.get(stage)
        if data is None:
            return None
        where = f"{_MANIFEST}: stage {stage}"
        outputs = {name: config.from_dict(Output, output, where=where) for name, output in data["outputs"].items()}
        return replace(config.from_dict(StageRecord, data, where=where), outputs=outputs)

    def begin(self, stage: str, key: str, outputs: tuple[str, ...]) -> bool:
        """Note that a stage starts. Old outputs are deleted, unless the same work was interrupted.

        Returns:
            True when outputs of the interrupted run are still there and may be used.
        """
        resumes = self.manifest.begun.get(stage) == key
        left = {name: data for name, data in self.manifest.stages.items() if name != stage}
        self._save(replace(self.manifest, stages=left, begun={**self.manifest.begun, stage: key}))
        for name in outputs:
            path = self.path(name)
            if path.is_dir():
                remove_leftovers(path)
            if not resumes:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return resumes

    def finish(self, stage: str, key: str, outputs: tuple[str, ...], seconds: float, facts: Mapping[str, Any]) -> None:
        """Note that a stage is done; hashes its outputs."""
        made = {name: self.describe(name) for name in outputs if self.path(name).exists()}
        record = StageRecord(key=key, outputs=made, seconds=round(seconds, 3), facts=dict(facts))
        stages = {**self.manifest.stages, stage: config.to_dict(record)}
        begun = {name: begun for name, begun in self.manifest.begun.items() if name != stage}
        self._save(replace(self.manifest, stages=stages, begun=begun))

    def set_frames(self, fps: float, frames: int, size: tuple[int, int]) -> None:
        """Note the grid of the working frames."""
        self._save(replace(self.manifest, fps=fps, frames=frames, size=size))

    def describe(self, name: str) -> Output:
        """Number, size and digest of the file or folder `name`."""
        path = self.path(name)
        if not path.is_dir():
            return Output(files=1, bytes=path.stat().st_size, sha256=sha256(path))
        digest, size, files = hashlib.sha256(), 0, sorted(p for p in path.iterdir() if not p.name.startswith("."))
        for file in files:
            digest.update(f"{file.name} {sha256(file)}\n".encode())
            size += file.stat().st_size
        return Output(files=len(files), bytes=size, sha256=digest.hexdigest())

    def is_whole(self, record: StageRecord) -> bool:
        """Whether all outputs of a stage are still there with their sizes (contents are not read again)."""
        for name, output in record.outputs.items():
            path = self.path(name)
            if not path.exists():
                return False
            files = [p for p in path.iterdir() if not p.name.startswith(".")] if path.is_dir() else [path]
            if len(files) != output.files or sum(p.stat().st_size for p in files) != output.bytes:
                return False
        return True

    # pictures ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.manifest.frames

    @property
    def fps(self) -> float:
        return self.manifest.fps

    @property
    def size(self) -> tuple[int, int]:
        """Height, width of the working frames."""
        return self.manifest.size

    def make_picture_folder(self, folder: str) -> None:
        """Make one of the folders of numbered pictures."""
        make_folder(self.root / folder)

    def picture_path(self, folder: str, index: int) -> Path:
        """The file of frame `index` in "frames", "masks", "parsing" or "alpha"."""
        return self.root / folder / f"{index:06d}{_FOLDERS[folder]}"

    def _picture(self, folder: str, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return read_image(self.picture_path(folder, index), gray=folder != "frames")

    def frame(self, index: int) -> np.ndarray:
        """Working frame, uint8 [h w 3]."""
        return self._picture("frames", index)

    def mask(self, index: int) -> np.ndarray:
        """Coarse person mask of the segmenter, uint8 [h w], 255 is person."""
        return self._picture("masks", index)

    def labels(self, index: int) -> np.ndarray:
        """`Region` of each pixel, uint8 [h w]."""
        return self._picture("parsing", index)

    def alpha(self, index: int) -> np.ndarray:
        """Soft coverage by the person, uint8 [h w], 255 is all person."""
        return self._picture("alpha", index)

    def plate(self) -> np.ndarray:
        """Clean background, uint8 [h w 3]."""
        return read_image(self.root / "plate.png")

    def write_picture(self, folder: str, index: int, pixels: np.ndarray) -> None:
        """Write frame `index` of a folder whole or not at all."""
        data = encode_image(pixels, "JPEG") if _FOLDERS[folder] == ".jpg" else encode_map(pixels)
        write_bytes(self.picture_path(folder, index), data)

    # sound, numbers ---------------------------------------------------------------------------------------------

    def audio(self) -> AudioTrack | None:
        """The sound in sync with the frames, or None when the video had none."""
        path = self.root / "audio.wav"
        return read_audio(path) if path.exists() else None

    def write_audio(self, name: str, track: AudioTrack) -> None:
        write_audio(self.path(name), track)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object, for example "split.json"."""
        return config.load_json(self.path(name))

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        write_json(self.path(name), dict(data))

    def tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Arrays and text metadata of a .safetensors file; see `read_tensors`."""
        return read_tensors(self.path(name))

    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        write_tensors(self.path(name), tensors, metadata)
