"""The stages between a video and a workspace: decode, detect, track, parse, audio, split, quality, voice."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar.core import Clip, FaceTrack
from avatar.errors import InputError
from avatar.face.ahead import read_ahead
from avatar.face.clothes import follow_clothes
from avatar.face.photometric import refine_pose
from avatar.face.rig import PersonalRig
from avatar.face.silhouette import fit_silhouette
from avatar.face.torso import follow_torso
from avatar.face.tracking import Footage, load_track, save_track
from avatar.media import Workspace, is_silent, open_clip, read_audio, replacing, write_image
from avatar.preprocess.background import Background, freed_memory_at_hand
from avatar.preprocess.config import PreprocessConfig
from avatar.preprocess.framing import Framing, choose_framing, look_for_person
from avatar.preprocess.gate import NUMBERS, PAGE, judge_clip
from avatar.preprocess.shots import sentence
from avatar.preprocess.stage import SOURCE, Run, Stage, require_seconds
from avatar.preprocess.tools import Tools
from avatar.preprocess.voice import HEARD, PHONES, STYLE, keep_phones, learn_voice
from avatar.preprocess.watch import Watched, Watcher

_EVERY = 10
"""Frames between progress reports."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The stages of one video; what each needs to know is bound here."""

    video: Path
    config: PreprocessConfig
    tools: Tools

    def stages(self) -> list[Stage]:
        """In the order of running."""
        amounts = {"min_seconds": self.config.min_seconds}
        faces = {"min_face_px": self.config.min_face_px, **self._key("detector")}
        track = ("track.safetensors", "rig.safetensors")
        return [
            Stage(
                name="decode",
                run=self.decode,
                inputs=(SOURCE,),
                outputs=("frames", "framing.json"),
                config={"size": self.config.size, **amounts, **faces},
            ),
            Stage(
                name="detect",
                run=self.detect,
                inputs=("frames",),
                outputs=("landmarks.safetensors", "masks", "shots.json"),
                config={**amounts, **faces},
                version=3,
            ),
            Stage(
                name="track",
                run=self.track,
                inputs=("landmarks.safetensors", "frames", "masks"),
                outputs=track,
                config=self._key("rig"),
                version=9,
            ),
            Stage(
                name="parse",
                run=self.parse,
                inputs=("frames", "masks", *track),
                outputs=("parsing", "alpha", "plate.png"),
                config=self._key("parser"),
            ),
            Stage(
                name="audio",
                run=self.audio,
                inputs=(SOURCE, "landmarks.safetensors"),
                outputs=("audio_source.wav", "audio.wav", PHONES),
                version=2,
            ),
            Stage(
                name="split",
                run=self.split,
                inputs=("framing.json", "landmarks.safetensors", *track, "alpha", "audio.wav"),
                outputs=("split.json",),
                config={"test_share": self.config.test_share},
                version=2,
            ),
            Stage(
                name="quality",
                run=self.quality,
                inputs=("frames", "landmarks.safetensors", "shots.json", *track, "plate.png", "audio.wav"),
                outputs=(NUMBERS, PAGE),
            ),
            Stage(name="voice", run=learn_voice, inputs=HEARD, outputs=(STYLE,), version=4),
        ]

    def _key(self, tool: str) -> dict[str, str]:
        """Of a tool that was chosen; the usual one has none, so that old folders stay up to date."""
        return {tool: self.tools.keys[tool]} if tool in self.tools.keys else {}

    def decode(self, run: Run) -> Mapping[str, Any]:
        """Film to working frames around the person."""
        workspace, name = run.workspace, self.video.name
        clip = open_clip(self.video, run.sink, with_audio=False)
        require_seconds(clip.seconds, self.config.min_seconds, f"{name}: the film is too short", "film 20 s or more")
        framing = self._framing(clip)
        workspace.write_json("framing.json", asdict(framing))
        workspace.set_frames(clip.fps, len(clip.frames), framing.size)
        workspace.make_picture_folder("frames")
        with Background() as background:
            for index in range(len(clip.frames)):
                _report(run, index, len(clip.frames))
                if run.resumes and workspace.picture_path("frames", index).exists():
                    continue
                background.submit(workspace.write_picture, "frames", index, framing.cut(clip.frames[index]))
        run.progress(len(clip.frames), len(clip.frames))
        return {"fps": clip.fps, "frames": len(clip.frames), "size": list(framing.size)}

    def _framing(self, clip: Clip) -> Framing:
        height, width = clip.frames[0].shape[:2]
        detector = self.tools.detector()
        try:
            faces = look_for_person(clip.frames, clip.fps, detector)
        except InputError as error:
            raise InputError(f"{self.video.name}: {error}") from None
        finally:
            detector.close()
        framing = choose_framing((height, width), faces, self.config.size)
        self._require_face_size(framing.face_px)
        return framing

    def _require_face_size(self, height_px: float) -> None:
        if height_px < self.config.min_face_px:
            raise InputError(
                f"{self.video.name}: the face is {height_px:.0f} px high (forehead to chin), at least "
                f"{self.config.min_face_px:.0f} px are needed; go closer to the camera or film with more pixels"
            )

    def detect(self, run: Run) -> Mapping[str, Any]:
        """Landmarks of the person and masks of all people."""
        workspace = run.workspace
        workspace.make_picture_folder("masks")
        detector, segmenter = self.tools.detector(), self.tools.segmenter()
        watcher = Watcher(detector, workspace.fps)

        def segment(index: int, frame: np.ndarray) -> None:
            workspace.write_picture("masks", index, np.round(segmenter.mask(frame) * 255).astype(np.uint8))

        try:
            with Background() as background:
                for index, frame in read_ahead(workspace.frame, range(len(workspace))):
                    _report(run, index, len(workspace))
                    if not (run.resumes and workspace.picture_path("masks", index).exists()):
                        background.submit(segment, index, frame)
                    watcher.add(frame)
        finally:
            detector.close()
            segmenter.close()
        run.progress(len(workspace), len(workspace))
        watched = watcher.finish(workspace.mask)
        person = watched.person
        self._judge(run, watched)
        tensors = {
            "landmarks_px": torch.from_numpy(person.landmarks_px.astype(np.float32)),
            "confidence": torch.from_numpy(person.confidence.astype(np.float32)),
            "crowded": torch.from_numpy(person.crowded.astype(np.uint8)),
            "covered": torch.from_numpy(watched.covered.astype(np.uint8)),
            "dark": torch.from_numpy(watched.dark.astype(np.float32)),
            "segment": torch.from_numpy(watched.segments.astype(np.int32)),
        }
        if not detector.seen.all():
            tensors["seen"] = torch.from_numpy(detector.seen.astype(np.uint8))
        workspace.write_tensors("landmarks.safetensors", tensors, {"fps": repr(workspace.fps)})
        workspace.write_json("shots.json", {"shots": [asdict(shot) for shot in watched.shots]})
        facts = {"found": int((person.confidence > 0).sum()), "crowded": int(person.crowded.sum())}
        return facts | {"covered": int(watched.covered.sum()), "cuts": len(watched.shots) - 1}

    def _judge(self, run: Run, watched: Watched) -> None:
        name, person, count = self.video.name, watched.person, len(watched.segments)
        good = int((person.confidence > 0).sum())
        if good == 0:
            raise InputError(f"{name}: no face found; film one person from the front, upright, well lit")
        cuts = sentence(watched.shots, run.workspace.fps)
        require_seconds(
            good / run.workspace.fps,
            self.config.min_seconds,
            f"{name}: a face is seen in {good} of {count} frames only",
            (f"{cuts}; " if cuts else "") + "film the person from the front, face uncovered and inside the picture",
        )
        if cuts:
            run.notice(f"{name}: {cuts}")
        covered, left = int(watched.covered.sum()), sum(len(shot) for shot in watched.shots if shot.why)
        if covered:
            run.notice(f"{name}: something covers the face in {covered} frames; these are left out")
        if good < 0.95 * (count - left) - covered:
            run.notice(f"{name}: no face in {count - left - covered - good} of {count} frames; these are left out")
        if person.crowded.mean() > 0.02:
            run.notice(
                f"{name}: more than one face in {int(person.crowded.sum())} of {count} frames; the larger is used"
            )

    def track(self, run: Run) -> Mapping[str, Any]:
        """Identity, camera and motion from the landmarks; outline, pose, torso and clothes from the pictures."""
        workspace = run.workspace
        tensors, _ = workspace.tensors("landmarks.safetensors")
        points, confidence = tensors["landmarks_px"].numpy(), tensors["confidence"].numpy()
        rig_family, size, segments = self.tools.family(), workspace.size, tensors["segment"].numpy()
        seen = tensors["seen"].numpy() > 0 if "seen" in tensors else None
        footage = Footage(segments=segments, seen=seen, dark=tensors["dark"].numpy())
        track, rig = self.tools.fit(
            points, confidence, rig_family, size, fps=workspace.fps, footage=footage, sink=run.sink
        )
        track, rig = fit_silhouette(track, rig, rig_family, frame=workspace.frame, mask=workspace.mask, sink=run.sink)
        track = refine_pose(track, rig, workspace.frame, segments=segments, sink=run.sink)
        track = follow_torso(track, rig, workspace.frame, workspace.mask, sink=run.sink, segments=segments)
        track = follow_clothes(track, rig, workspace.frame, workspace.mask, sink=run.sink, segments=segments)
        with replacing(workspace.path("track.safetensors")) as temporary:
            save_track(track, temporary)
        with replacing(workspace.path("rig.safetensors")) as temporary:
            rig.save(temporary)
        good = int((track.confidence > 0).sum())
        require_seconds(
            good / workspace.fps,
            self.config.min_seconds,
            f"{self.video.name}: the head could be followed in {good} frames only",
            "film the person from the front, without cuts and with the face uncovered",
        )
        return {"used": good, "focal": list(track.camera.focal)}

    def parse(self, run: Run) -> Mapping[str, Any]:
        """Region maps, soft coverage and the clean background."""
        with freed_memory_at_hand():
            return self._parse(run)

    def _parse(self, run: Run) -> Mapping[str, Any]:
        workspace = run.workspace
        track, rig = _tracked(workspace)
        parser = self.tools.parser(rig, track.camera, len(workspace))
        surveyed, seen = list(parser.survey_indices), track.confidence > 0
        total = len(surveyed) + len(workspace)
        for done, (index, frame) in enumerate(read_ahead(workspace.frame, surveyed)):
            _report(run, done, total)
            motion = track.motion.frame(index) if seen[index] else None
            parser.survey(index, frame, workspace.mask(index), motion)
        write_image(workspace.path("plate.png"), parser.plate.picture)
        for folder in ("parsing", "alpha"):
            workspace.make_picture_folder(folder)

        def work(index: int) -> None:
            landmarks_px = track.landmarks_px[index].numpy() if seen[index] else None
            frame, mask = workspace.frame(index), workspace.mask(index)
            maps = parser.parse(frame, mask, track.motion.frame(index), landmarks_px)
            workspace.write_picture("parsing", index, maps.labels)
            workspace.write_picture("alpha", index, maps.alpha)

        with Background(threads=2) as background:
            for index in range(len(workspace)):
                _report(run, len(surveyed) + index, total)
                if not (run.resumes and _has_maps(workspace, index)):
                    background.submit(work, index)
        run.progress(total, total)
        return {"plate_seen": round(float(parser.plate.seen.mean()), 4)}

    def audio(self, run: Run) -> Mapping[str, Any]:
        """Sound at 16 kHz, shifted so that lips and voice meet."""
        workspace, name = run.workspace, self.video.name
        lacking = "the avatar learns the face but not how this person's lips follow the voice"
        run.progress(0, 2, "steps")
        try:
            source = read_audio(self.video)
        except InputError:
            run.notice(f"{name}: the film has no sound; {lacking}")
            return {"sound": "none", "delay_seconds": 0.0, "delay_confidence": 0.0}
        seconds = len(workspace) / workspace.fps
        workspace.write_audio("audio_source.wav", source.between(0, seconds))
        run.progress(1, 2, "steps")
        if is_silent(source):
            run.notice(f"{name}: the sound is silent; {lacking}")
            workspace.write_audio("audio.wav", source.between(0, seconds))
            return {"sound": "silent", "delay_seconds": 0.0, "delay_confidence": 0.0}
        tensors, _ = workspace.tensors("landmarks.safetensors")
        sync = self.tools.offset(source.between(0, seconds), tensors, workspace.fps)
        workspace.write_audio("audio.wav", source.between(-sync.delay, seconds - sync.delay))
        keep_phones(workspace, sync)
        run.progress(2, 2, "steps")
        if sync.reason:
            run.notice(f"{name}: sound is taken as it is, its offset to the lips could not be told: {sync.reason}")
        return {"sound": "voice", "delay_seconds": round(sync.delay, 4), "delay_confidence": round(sync.confidence, 3)}

    def split(self, run: Run) -> Mapping[str, Any]:
        """The last part of the clip is for testing; frames without a face are in neither part."""
        workspace = run.workspace
        track, _ = _tracked(workspace)
        used = [i for i, confidence in enumerate(track.confidence.tolist()) if confidence > 0]
        first_test = round(len(workspace) * (1 - self.config.test_share))
        parts = {"train": [i for i in used if i < first_test], "test": [i for i in used if i >= first_test]}
        if not parts["train"]:
            raise InputError(
                f"{self.video.name}: no face in the first {first_test} frames, which training needs; "
                "cut the film so that it begins with the person"
            )
        workspace.write_json("split.json", parts)
        return {name: len(indices) for name, indices in parts.items()}

    def quality(self, run: Run) -> Mapping[str, Any]:
        """Numbers, the page to look at, and what to film again."""
        return judge_clip(run, self.video.name, _tracked(run.workspace), self.tools.family())


def _report(run: Run, index: int, total: int) -> None:
    if index % _EVERY == 0:
        run.progress(index, total)


def _has_maps(workspace: Workspace, index: int) -> bool:
    return all(workspace.picture_path(folder, index).exists() for folder in ("parsing", "alpha"))


def _tracked(workspace: Workspace) -> tuple[FaceTrack, PersonalRig]:
    rig = PersonalRig.load(workspace.path("rig.safetensors"))
    return load_track(workspace.path("track.safetensors")), rig
