"""The page about a clip: it stands alone, says what happened, and the terminal says where it is."""

import re
from html import escape

import numpy as np
import pytest

pytest.importorskip("mediapipe")

from films import TOOLS, Listener, film, person, run, wall

from avatar.console import Console
from avatar.events import Done
from avatar.preprocess import PreprocessConfig, preprocess


@pytest.fixture(scope="module")
def made(tmp_path_factory, stills):
    """26 frames of a person, then 12 of the wall."""
    frames = [person(stills, i) for i in range(26)] + [wall().astype(np.uint8)] * 12
    heard = Listener()
    return run(film(tmp_path_factory.mktemp("film") / "<me> & you.mp4", frames), heard), heard


def test_page_and_notice_say_what_happened_at_the_cut(made) -> None:
    workspace, heard = made
    page = workspace.path("quality.html").read_text(encoding="utf-8")
    said = "ut at 2.6 s; 12 frames of another shot are left out (nobody is seen)"
    assert heard.said(said)
    assert said in page
    assert "another shot: 12 frames" in page
    assert "Before and after cuts" in page
    assert "12 frames of other shots are left out; film in one go" in page
    numbers = workspace.json("quality.json")
    assert numbers["cuts"] == [2.6]
    assert numbers["left_out"] == 12
    assert numbers["happened"][0].endswith(said)
    assert workspace.tensors("landmarks.safetensors")[0]["confidence"][26:].max() == 0


def test_page_needs_nothing_else_and_speaks_to_those_who_do_not_see_it(made) -> None:
    page = made[0].path("quality.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "<script" not in page
    assert "url(" not in page
    images = re.findall(r"<img[^>]*>", page)
    assert len(images) > 12
    assert all(re.search(r'alt="[^"]{8,}"', image) for image in images)
    assert "&lt;me&gt; &amp; you.mp4" in page
    assert "<me>" not in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_errors_are_given_for_every_part_of_the_face(made) -> None:
    page, numbers = made[0].path("quality.html").read_text(encoding="utf-8"), made[0].json("quality.json")
    for part in ("lips", "lids", "brows", "nose", "face oval", "irises"):
        assert f'<th scope="row">{part}</th>' in page
        assert numbers["reprojection_regions"][part] > 0
    assert len(numbers["warnings"]) > 0
    assert all(escape(f"{warning[0].upper()}{warning[1:]}.") in page for warning in numbers["warnings"])


def test_terminal_names_the_page_also_when_it_is_up_to_date(made, capsys) -> None:
    workspace, _ = made
    video = next(workspace.root.parent.glob("*.mp4"))
    done: list[Done] = []
    console = Console()

    def sink(event):
        console(event)
        done.extend([event] if isinstance(event, Done) else [])

    preprocess(video, workspace.root, PreprocessConfig(), sink, tools=TOOLS)
    assert all(event.skipped for event in done)
    assert f"quality: up to date, see {workspace.path('quality.html')}" in capsys.readouterr().err
