"""What a stranger sees first: commands that README names exist, the package holds its files, no foreign paths."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown_commands() -> list[list[str]]:
    blocks = re.findall(r"```(?:sh|bash)?\n(.*?)```", README, flags=re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.split() for line in lines if line]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_readme_shows_the_main_commands() -> None:
    text = " ".join(" ".join(c) for c in shown_commands())
    for wanted in ("make demo", "make test", "avatar build", "avatar drive", "avatar evaluate", "avatar doctor"):
        assert wanted in text


@pytest.mark.parametrize("command", shown_commands(), ids=" ".join)
def test_each_command_of_the_readme_exists(command: list[str]) -> None:
    if command[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in command[1:])
        return
    program = command[0].removeprefix(".venv/bin/")
    if program != "avatar":
        assert program in ("git", "cd", "source", ".", "pip")
        return
    help_text = subprocess.run(
        [sys.executable, "-m", "avatar", command[1], "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for option in (word for word in command[2:] if word.startswith("-")):
        assert option in help_text, f"{option} is no option of avatar {command[1]}"


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_wheel_holds_every_module_and_the_baked_rig(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path / "build")]
    command += ["bdist_wheel", "--dist-dir", str(tmp_path)]
    environment = {**os.environ, "AVATAR_NATIVE": "0"}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "avatar").rglob("*.py")}
    modules |= {"avatar/" + str(p.relative_to(ROOT)) for p in (ROOT / "recipes").rglob("*.py")}
    modules |= {
        "avatar/" + str(p.relative_to(ROOT)) for p in (ROOT / "viewer").rglob("*") if p.suffix and p.suffix != ".pyc"
    }
    assert modules <= names, sorted(modules - names)
    assert "avatar/face/data/anny.safetensors" in names
    assert not [n for n in names if n.startswith("tests/")]


def test_repository_names_no_path_of_one_machine() -> None:
    pattern = re.compile(r"/(work|root|farm)/(?!\w*\.sock)")
    for path in tracked_files():
        if path.suffix in (".py", ".md", ".toml", ".cpp", ".cu", ".h", ".txt", "") and path != Path(__file__):
            found = pattern.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert not found, f"{path.name}: {found.group() if found else ''}"


def test_large_files_are_only_the_known_ones() -> None:
    allowed = {"anny.safetensors"}
    for path in tracked_files():
        assert path.stat().st_size < 2_000_000 or path.name in allowed, path
