"""Installing on machines that lack something: no compiler, no nvcc, a broken nvcc."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from avatar import doctor, ops

ROOT = Path(__file__).parents[2]

# Compilers that only leave the file they were asked for, so that the way of the build is seen and no time is spent.
RECORDER = """#!{python}
import sys
from pathlib import Path
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
Path(sys.argv[sys.argv.index("-o") + 1]).touch()
"""
BROKEN_NVCC = """#!{python}
import sys
if "--dryrun" in sys.argv:
    print("#$ TOP=/nowhere/", file=sys.stderr)
    raise SystemExit(0)
raise SystemExit("nvcc: unsupported host compiler")
"""


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "build", "--build-base", str(folder)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)


def program(path: Path, text: str) -> str:
    log = str(path.parent / "log")
    path.write_text(text.replace("{python}", sys.executable).replace("{log!r}", repr(log)))
    path.chmod(0o755)
    return str(path)


def test_without_a_compiler_the_package_installs_and_doctor_says_how_to_mend_it(tmp_path):
    done = build(tmp_path, CC="false", CXX="false", AVATAR_CUDA="0")
    assert "plain torch" in done.stderr and "C++17 compiler" in done.stderr
    assert not list(tmp_path.rglob("_ops*.so"))
    (installed,) = tmp_path.glob("lib*")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AVATAR_")}
    environment["PYTHONPATH"] = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    shown = subprocess.run(
        [sys.executable, "-S", "-m", "avatar", "doctor"],  # -S: an editable install would bring its own library
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    kernels = shown[shown.index("kernels") - 9 :].splitlines()
    assert kernels[0].startswith("slow") and "slow reference in plain torch" in kernels[0]
    assert "No module named 'avatar._ops'" in kernels[0]
    assert "C++17 compiler" in kernels[1] and "setup.py build_ext --inplace" in kernels[1]


@pytest.mark.parametrize("nvcc", ["broken", "missing"])
def test_without_a_working_nvcc_the_cpu_half_is_built(tmp_path, nvcc):
    if nvcc == "missing" and Path("/usr/local/cuda/bin/nvcc").exists():
        pytest.skip("there is an nvcc where setup.py looks without being told")
    compiler = program(tmp_path / "cc", RECORDER)
    if nvcc == "broken":
        program(tmp_path / "nvcc", BROKEN_NVCC)
    done = build(tmp_path / "build", CC=compiler, CXX=compiler, AVATAR_CUDA="1", PATH=str(tmp_path))
    commands = (tmp_path / "log").read_text()
    assert list(tmp_path.rglob("_ops*.so")), done.stderr
    assert "rasterize_cpu.cpp" in commands and "-DAV_CUDA" not in commands and "cudart" not in commands
    assert ("built without CUDA" in done.stderr) == (nvcc == "broken")


def test_doctor_names_the_instruction_set():
    if ops.describe()["backend"] != "native":
        pytest.skip("compiled operators are missing")
    (kernels,) = [finding for finding in doctor.examine() if finding.name == "kernels"]
    assert kernels.state == "ok" and ops.describe()["instruction_set"] in kernels.detail


def test_doctor_says_that_the_reference_was_asked_for(monkeypatch):
    monkeypatch.setenv("AVATAR_OPS", "reference")
    (kernels,) = [finding for finding in doctor.examine() if finding.name == "kernels"]
    assert kernels.state == "slow" and kernels.remedy == "unset AVATAR_OPS"
