"""A stage reads and writes files of a workspace; it is skipped while all it depends on is unchanged."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from avatar.errors import InputError
from avatar.events import Done, Notice, Progress, Sink
from avatar.media import Workspace

SOURCE = "source"
"""The input name of the video itself."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a stage gets when it runs."""

    workspace: Workspace
    stage: str
    sink: Sink
    resumes: bool
    """Outputs of the same work, interrupted, are there: each single file is whole."""

    def progress(self, done: int, total: int, unit: str = "frames") -> None:
        self.sink(Progress(stage=self.stage, done=done, total=total, unit=unit))

    def notice(self, message: str) -> None:
        self.sink(Notice(message=message))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the work, as data."""

    name: str
    run: Callable[[Run], Mapping[str, Any]]
    """Does the work and returns facts (plain JSON values) for the manifest and the listener."""
    inputs: tuple[str, ...]
    """Files and folders made by earlier stages, or `SOURCE`."""
    outputs: tuple[str, ...]
    """Files and folders it may leave; one that is not made (no sound) is simply absent."""
    config: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    """Raised when the same inputs would give another result."""


def key_of(stage: Stage, workspace: Workspace) -> str:
    """Hash of all that the outputs of `stage` depend on."""
    digests = _digests(workspace)
    depends = {
        "stage": stage.name,
        "version": stage.version,
        "config": dict(stage.config),
        "inputs": {name: digests.get(name) for name in stage.inputs},
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def _digests(workspace: Workspace) -> dict[str, str]:
    found = {SOURCE: workspace.manifest.source_sha256}
    for name in workspace.manifest.stages:
        record = workspace.record(name)
        if record is not None:
            found |= {output: made.sha256 for output, made in record.outputs.items()}
    return found


def run_stages(stages: list[Stage], workspace: Workspace, sink: Sink) -> None:
    """Run what is not up to date, in order.

    An error or an interrupt leaves finished stages as they are; the stage that was running starts again the next
    time, from the files that it had completed if nothing changed.

    Raises:
        InputError: from a stage.
    """
    for stage in stages:
        key = key_of(stage, workspace)
        record = workspace.record(stage.name)
        files = tuple(workspace.path(name) for name in stage.outputs)
        if record is not None and record.key == key and workspace.is_whole(record):
            sink(Done(stage=stage.name, seconds=0.0, outputs=files, facts=record.facts, skipped=True))
            continue
        start = time.monotonic()
        resumes = workspace.begin(stage.name, key, stage.outputs)
        facts = stage.run(Run(workspace=workspace, stage=stage.name, sink=sink, resumes=resumes))
        seconds = time.monotonic() - start
        workspace.finish(stage.name, key, stage.outputs, seconds, facts)
        sink(Done(stage=stage.name, seconds=seconds, outputs=files, facts=facts))


def require_seconds(found: float, wanted: float, what: str, remedy: str) -> None:
    """Refuse too little material.

    Raises:
        InputError: when `found` < `wanted` seconds.
    """
    if found < wanted:
        raise InputError(f"{what}: {found:.1f} s, at least {wanted:.0f} s are needed; {remedy}")
