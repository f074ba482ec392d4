"""Build `avatar._ops` with setuptools and nanobind, without torch; the rest of the project is in pyproject.toml.

Without a compiler (or with one that is neither GCC nor Clang) the package installs all the same, without the library.
The CUDA half is built where nvcc and a GPU are found, for that GPU; AVATAR_CUDA=1 builds it wherever nvcc is, for all
architectures, and AVATAR_CUDA=0 never. It links the CUDA runtime statically, so the library loads without a driver.
AVATAR_SANITIZE=1 builds the CPU half with AddressSanitizer and UBSan, for `make sanitize`, which puts it elsewhere.
"""

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

SOURCES = Path("cuda_ext")
BASE_FLAGS = [
    "-std=c++17",
    "-O3",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-ffp-contract=off",
    "-pthread",
]
# Loops over vectors are compiled once for each instruction set; the library picks one when it is loaded.
AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"]
QUIET = ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # false alarms of GCC 12 in its own headers
# Not nanobind itself: it is not ours to test. A cast of a float that does not fit is no part of "undefined" in GCC.
SANITIZE = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
SANITIZERS = "-fsanitize=address,undefined,float-cast-overflow"
# By their names: *_cpu.cpp are vector loops, *.cu are CUDA, everything else is compiled once.
VECTOR_LOOPS = sorted(SOURCES.glob("*/*_cpu.cpp"))
PLAIN = sorted({*SOURCES.rglob("*.cpp")} - {*VECTOR_LOOPS})
CUDA = sorted(SOURCES.glob("*/*.cu"))
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


def sanitized() -> bool:
    """Whether this build is to find errors of memory and arithmetic instead of being fast."""
    return os.environ.get("AVATAR_SANITIZE", "0") not in ("", "0")


def cuda_compiler() -> tuple[str, Path] | None:
    """The path of nvcc and of its toolkit's libraries, if the CUDA half is to be built."""
    wanted = os.environ.get("AVATAR_CUDA", "")
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None or wanted == "0" or sanitized() or (not wanted and not Path("/dev/nvidia0").exists()):
        return None
    plan = subprocess.run([nvcc, "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=False).stderr
    top = re.search(r"^#\$ TOP=(.*)$", plan, re.MULTILINE)
    return (nvcc, Path(top[1].strip()) / "lib64") if top else None


class BuildOps(build_ext):
    """Compile each source with its own flags, nanobind's runtime among them, and link them into one library."""

    def build_extension(self, ext: Extension) -> None:
        try:
            self._build(ext)
        except (CompileError, LinkError) as error:
            raise CompileError(
                f"{error}\navatar._ops is not built: the operators in plain torch will be used, which are slow. "
                "With a C++17 compiler (for example: apt install g++) install again; `avatar doctor` shows what is used"
            ) from None

    def _build(self, ext: Extension) -> None:
        try:
            import nanobind
        except ImportError as error:
            raise CompileError(f"avatar._ops needs nanobind ({error})") from None
        if self.compiler.compiler_type == "msvc":
            raise CompileError("avatar._ops needs GCC or Clang")
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        base = [*BASE_FLAGS, *(["-DAV_X86"] if x86 else [])]
        checks = [*SANITIZE, SANITIZERS] if sanitized() else []
        root = Path(nanobind.source_dir()).parent
        include = [str(root / "include"), str(root / "ext" / "robin_map" / "include"), *self.compiler.include_dirs]
        include += self.include_dirs or []
        work = Path(self.build_temp) / "ops"

        def compiled(job: tuple[Path, str, list[str]]) -> str:
            source, name, flags = job
            return self.compiler.compile(
                [str(source)], output_dir=str(work / name), include_dirs=include, extra_postargs=[*base, *flags]
            )[0]

        cuda = self._cuda_objects(work)
        if cuda:
            base.append("-DAV_CUDA")
        nanobind_flags = ["-DNB_COMPACT_ASSERTIONS", "-DNDEBUG", "-fno-strict-aliasing"]
        jobs = [(root / "src" / "nb_combined.cpp", "nanobind", nanobind_flags)]
        builds = {"portable": [], "avx2": [*AVX2, *QUIET], "avx512": [*AVX512, *QUIET]} if x86 else {"portable": []}
        jobs += [(source, name, [*flags, *checks]) for source in VECTOR_LOOPS for name, flags in builds.items()]
        jobs += [(source, "plain", ["-fno-strict-aliasing", *checks]) for source in PLAIN]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, jobs))
        self.compiler.link_shared_object(
            [*objects, *cuda], self.get_ext_fullpath(ext.name), extra_postargs=self._link_flags(), target_lang="c++"
        )

    def _cuda_objects(self, work: Path) -> list[str]:
        """Compiled CUDA sources and the runtime to link; nothing when there is no toolkit or it fails."""
        found = cuda_compiler()
        if found is None:
            return []
        nvcc, libraries = found
        targets = ["-arch=native"]
        if os.environ.get("AVATAR_CUDA"):
            targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
        work.mkdir(parents=True, exist_ok=True)
        objects = [str(work / source.with_suffix(".o").name) for source in CUDA]
        for source, out in zip(CUDA, objects, strict=True):
            flags = ["-std=c++17", "-O3", "--threads=2", "-Xcompiler=-fPIC,-fvisibility=hidden", *targets]
            command = [nvcc, *flags, "-c", str(source), "-o", out]
            if subprocess.run(command, check=False).returncode:
                self.warn(f"nvcc failed on {source}; avatar._ops is built without CUDA")
                return []
        return [*objects, str(libraries / "libcudart_static.a"), "-ldl", "-lrt"]

    @staticmethod
    def _link_flags() -> list[str]:
        if platform.system() == "Darwin":
            return ["-Wl,-dead_strip", "-undefined", "dynamic_lookup", *([SANITIZERS] if sanitized() else [])]
        if sanitized():
            return ["-pthread", SANITIZERS]
        return ["-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections", "-Wl,-s", "-pthread"]


# AVATAR_NATIVE=0 leaves the native half out, for example to look at what a wheel holds.
NATIVE = [Extension("avatar._ops", ["cuda_ext/bindings.cpp"], optional=True)]

setup(
    ext_modules=[] if os.environ.get("AVATAR_NATIVE") == "0" else NATIVE,
    cmdclass={"build_ext": BuildOps},
)
