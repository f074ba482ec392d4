"""Compile every CUDA source for every architecture: `python -m tests.perf.cuda_check`. Needs nvcc, but no GPU."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "cuda_ext"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


def compiles(nvcc: str, source: Path, architecture: int) -> bool:
    """One source for one architecture; warnings count as errors."""
    with tempfile.TemporaryDirectory() as folder:
        target = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
        flags = ["-std=c++17", "-O3", "-Werror=all-warnings", target, "-c", str(source), "-o", f"{folder}/out.o"]
        start = time.perf_counter()
        done = subprocess.run([nvcc, *flags], capture_output=True, text=True, check=False)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{source.relative_to(SOURCES)}  sm_{architecture}  {verdict}  {time.perf_counter() - start:.0f} s")
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> int:
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        print("cuda-check: skipped, there is no nvcc on this machine (install the CUDA toolkit)")
        return 0
    sources = sorted(SOURCES.rglob("*.cu"))
    results = [compiles(nvcc, source, architecture) for source in sources for architecture in ARCHITECTURES]
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
