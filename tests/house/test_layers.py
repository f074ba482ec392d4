"""The architecture as a test: imports point down only, siblings do not know each other, and importing is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOOR = {
    "ops": 0, "config": 0, "events": 0, "errors": 0, "_ops": 0,
    "core": 1,
    "media": 2, "face": 2, "speech": 2,
    "models": 3,
    "preprocess": 4, "train": 4, "drive": 4, "evaluate": 4, "synthetic": 4,
    "cli": 5, "build": 5, "console": 5, "doctor": 5, "recipes": 5, "viewer": 5, "__init__": 5, "__main__": 5,
}  # fmt: skip
FREE = {"errors", "events", "config"}  # floor 0's nouns may be used by its own floor
SOURCES = sorted(
    [*(ROOT / "avatar").rglob("*.py"), *(ROOT / "recipes").rglob("*.py"), *(ROOT / "viewer").rglob("*.py")]
)


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if relative.parts[0] != "avatar" else relative.with_suffix("").parts[1]


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "avatar" else str(node.module) for alias in node.names
            ]
        parts |= {name.split(".")[1] for name in names if name.startswith("avatar.")}
    return parts - {"__version__"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_and_never_sideways(path: Path) -> None:
    part = part_of(path)
    for other in imported_parts(path) - {part}:
        assert other in FLOOR, f"{other} has no floor: name it in this test and in the design"
        assert FLOOR[other] < FLOOR[part] or other in FREE or FLOOR[part] == 5, f"{part} may not import {other}"


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if part_of(p) in ("models", "train", "drive")], ids=lambda p: p.name
)
def test_training_and_driving_need_no_preprocessing_packages(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for package in ("mediapipe", "anny", "cv2"):
        assert f"import {package}" not in text and f"from {package}" not in text


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_import_avatar_loads_no_codec_no_viewer_and_no_torch() -> None:
    loaded = set(fresh("import sys, avatar; print(*{m.split('.')[0] for m in sys.modules})").split())
    assert not loaded & {"torch", "numpy", "av", "cv2", "mediapipe", "anny", "viser", "matplotlib", "pocketsphinx"}


def test_models_load_without_preprocessing_packages() -> None:
    code = (
        "import sys\n"
        "for name in ('mediapipe', 'anny', 'cv2', 'pocketsphinx', 'matplotlib', 'flip_evaluator'):\n"
        "    sys.modules[name] = None\n"
        "import avatar.models, avatar.train, avatar.drive, avatar.face.rig, avatar.media, avatar.speech, avatar.recipes"
    )
    fresh(code)
