"""Video in, workspace out."""

from pathlib import Path

from avatar.events import Sink, silent
from avatar.media import Workspace
from avatar.preprocess.background import one_thread_each
from avatar.preprocess.config import PreprocessConfig
from avatar.preprocess.stage import run_stages
from avatar.preprocess.tools import Tools


def preprocess(
    video: Path,
    workspace: Path,
    config: PreprocessConfig | None = None,
    sink: Sink = silent,
    *,
    tools: Tools | None = None,
) -> Workspace:
    """Prepare a subject's folder: frames, landmarks, track, rig, region maps, plate, sound, split, quality.

    Finished stages whose inputs have not changed are skipped, so calling it again resumes.

    Args:
        workspace: folder; made when missing.
        tools: detector, segmenter, tracker and so on to use instead of those that `config` names.

    Raises:
        InputError: when the film cannot be used or the folder not be written; the message says what to do.
    """
    from avatar.preprocess.choices import tools_for
    from avatar.preprocess.steps import Steps

    config = config or PreprocessConfig()
    tools = tools or tools_for(config, sink)
    existed = Path(workspace).exists()
    folder = Workspace.create(Path(workspace), Path(video))
    steps = Steps(video=Path(video), config=config, tools=tools)
    try:
        with one_thread_each():
            run_stages(steps.stages(), folder, sink)
    finally:
        if not existed:
            folder.remove_if_empty()
    return folder
