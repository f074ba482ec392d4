"""Compile the CUDA sources with a plain C++ compiler into a library that runs them on the CPU, for tests.

It is `avatar._ops` with its CUDA half: every `.cu` file of `cuda_ext/` against the headers beside this file, with no
change but to launches `kernel<<<...>>>(...)`, which are no C++. `python -m tests.cuda_on_cpu.build` builds it and says
where it is; AVATAR_CUDA_ON_CPU_FLAGS adds flags, for example `-fsanitize=address`. Objects are kept in
`build/cuda_on_cpu` and made again when what they are made of changes.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "cuda_ext"
FLAGS = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-strict-aliasing", "-pthread"]
FLAGS += ["-DAV_CUDA", "-DNDEBUG", "-DNB_COMPACT_ASSERTIONS", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
LAUNCH = re.compile(r"([\w:]+(?:<[^<>]*>)?)\s*<<<(.*?)>>>\s*\((\s*\))?", re.DOTALL)
# nvcc reads CUDA's header by itself and defines this name.
AS_CUDA = ["-x", "c++", "-D__CUDACC__", "-include", "cuda_runtime.h"]


def missing() -> str:
    """Why the library cannot be built here, or nothing."""
    if shutil.which("g++") is None:
        return "there is no g++"
    if importlib.util.find_spec("nanobind") is None:
        return "nanobind is not installed"
    if not os.uname().sysname.startswith("Linux"):
        return "it finds shared variables as Linux lays them out"
    return ""


def without_launches(source: str) -> str:
    """The same source with each launch as a call."""

    def call(match: re.Match[str]) -> str:
        return f"cuda_on_cpu::Configured({match[2]})({match[1]}{match[3] or ', '}"

    return LAUNCH.sub(call, source)


def compiled(source: Path, flags: list[str], headers: bytes, folder: Path) -> Path:
    """The object file of one source."""
    # What is not of CUDA is only linked along, and need not be fast.
    kind = ["-O2", *AS_CUDA] if source.suffix == ".cu" else ["-O2" if source.parent == HERE else "-O0"]
    command = ["g++", *flags, f"-I{source.parent}", *kind, "-c"]
    key = hashlib.sha256(headers + source.read_bytes() + " ".join(command).encode()).hexdigest()[:16]
    target = folder / f"{source.stem}-{key}.o"
    if not target.exists():
        for old in folder.glob(f"{source.stem}-*"):
            old.unlink()
        if source.suffix == ".cu":
            translated = target.with_suffix(".cu")
            translated.write_text(f'#line 1 "{source}"\n{without_launches(source.read_text())}')
            source = translated
        command.append(str(source))
        unfinished = target.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(unfinished)], check=True)
        unfinished.replace(target)
    return target


def build() -> Path:
    """Compile what changed and link; the path of the library."""
    import nanobind

    extra = os.environ.get("AVATAR_CUDA_ON_CPU_FLAGS", "").split()
    folder = ROOT / "build" / "cuda_on_cpu" / hashlib.sha256(" ".join(extra).encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(nanobind.source_dir()).parent
    include = [HERE / "include", root / "include", root / "ext" / "robin_map" / "include"]
    flags = [*FLAGS, *extra, f"-isystem{sysconfig.get_paths()['include']}", *(f"-I{path}" for path in include)]
    own = sorted([*SOURCES.rglob("*.h"), *HERE.rglob("*.h"), *HERE.rglob("*.cuh")])
    headers = b"".join(path.read_bytes() for path in own)
    sources = sorted([*SOURCES.rglob("*.cu"), *SOURCES.rglob("*.cpp"), HERE / "fibers.cpp"])
    jobs = [(source, headers) for source in sources] + [(root / "src" / "nb_combined.cpp", b"")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(lambda job: compiled(job[0], flags, job[1], folder), jobs))
    library = folder / f"_ops{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not library.exists() or any(path.stat().st_mtime > library.stat().st_mtime for path in objects):
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["g++", "-shared", *extra, "-pthread", *map(str, objects), "-o", str(unfinished)], check=True)
        unfinished.replace(library)
    return library


@lru_cache(maxsize=1)
def load() -> ModuleType:
    """The library as a Python module, beside `avatar._ops` and not in its place."""
    spec = importlib.util.spec_from_file_location("avatar_cuda_on_cpu._ops", build())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print(missing() or build())
