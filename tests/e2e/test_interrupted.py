"""Interrupts and full disks anywhere in preprocessing: nothing half-written, and the next run ends the work."""

import errno
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("mediapipe")

from films import STAGES, Listener, film, person, run, voice

from avatar.errors import InputError
from avatar.events import Done, Progress
from avatar.preprocess import PreprocessConfig, preprocess


def contents(root: Path) -> dict[str, bytes]:
    """All files but the manifest, which holds times."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "workspace.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, stills, quick) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    video = film(folder / "a.mp4", (person(stills, i) for i in range(24)), audio=voice(2.4))
    return video, contents(run(video, tools=quick).root)


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_in_any_stage_then_resume(tmp_path, whole, quick, stage):
    def interrupt(event):
        late = isinstance(event, Progress) and event.stage == stage and event.done > 0
        if late or (isinstance(event, Done) and event.stage == stage and stage not in ("decode", "detect", "parse")):
            raise KeyboardInterrupt

    video, expected = whole
    with pytest.raises(KeyboardInterrupt):
        preprocess(video, tmp_path / "me", sink=interrupt, tools=quick)
    names = [p.name for p in (tmp_path / "me").rglob("*")]
    assert not [name for name in names if name.startswith(".part")]
    finished = json.loads((tmp_path / "me" / "workspace.json").read_text())["stages"]
    heard = Listener()
    workspace = preprocess(video, tmp_path / "me", sink=heard, tools=quick)
    assert heard.skipped == list(finished)
    assert contents(workspace.root) == expected


@pytest.mark.parametrize("writes", [3, 30, 56, 90])
def test_a_disk_that_fills_up_in_the_middle(tmp_path, whole, quick, monkeypatch, writes):
    video, expected = whole
    count, write = 0, Path.write_bytes

    def filling(self, data):
        nonlocal count
        count += 1
        if count > writes:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", filling)
    with pytest.raises(InputError, match="the disk is full; free some space and start again"):
        preprocess(video, tmp_path / "me", tools=quick)
    monkeypatch.undo()
    for path in (tmp_path / "me").rglob("*"):
        assert not path.name.startswith(".part")
    workspace = preprocess(video, tmp_path / "me", tools=quick)
    assert contents(workspace.root) == expected


def test_nothing_runs_again_when_nothing_changed_and_only_what_depends_on_a_change(tmp_path, whole, quick):
    video, _ = whole
    preprocess(video, tmp_path / "me", tools=quick)
    heard = Listener()
    preprocess(video, tmp_path / "me", sink=heard, tools=quick)
    assert heard.skipped == list(STAGES)
    heard = Listener()
    preprocess(video, tmp_path / "me", PreprocessConfig(test_share=0.5), sink=heard, tools=quick)
    assert heard.skipped == [stage for stage in STAGES if stage not in ("split", "voice")]
    (tmp_path / "me" / "alpha" / "000003.png").unlink()
    heard = Listener()
    preprocess(video, tmp_path / "me", PreprocessConfig(test_share=0.5), sink=heard, tools=quick)
    assert heard.skipped == ["decode", "detect", "track", "audio", "split", "quality", "voice"]
