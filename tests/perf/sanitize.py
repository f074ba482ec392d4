"""Run the parity tests on a build with AddressSanitizer and UBSan: `python -m tests.perf.sanitize [pytest options]`.

The build lies in build/sanitize and leaves the installed library alone. Python itself is not instrumented, so the
sanitizer's runtime is loaded before everything else, and leaks (Python's own) are not looked for.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "sanitize"


def runtime(compiler: str) -> list[str]:
    """The sanitizer's library and the C++ library whose exceptions it must know before it starts."""
    found = []
    for name in ("libasan.so", "libstdc++.so.6"):
        asked = [compiler, f"-print-file-name={name}"]
        found.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    return [str(Path(path).resolve()) for path in found if Path(path).is_absolute()]


def build() -> Path:
    """Compile into `BUILD`; the extension is optional to setup.py, so look whether it is there."""
    shutil.rmtree(BUILD, ignore_errors=True)
    command = [sys.executable, "setup.py", "--quiet", "build_ext"]
    command += ["--build-lib", str(BUILD), "--build-temp", str(BUILD / "objects")]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "AVATAR_SANITIZE": "1"}, check=True)
    libraries = [*BUILD.glob("avatar/_ops*.so")]
    if not libraries:
        raise SystemExit("sanitize: the library with sanitizers was not built; see the compiler's messages above")
    return libraries[0]


def main() -> int:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    preload = runtime(compiler) if compiler else []
    if len(preload) < 2:
        print("sanitize: skipped, this needs GCC with libasan (apt install g++)")
        return 0
    environment = {
        **os.environ,
        "AVATAR_OPS": "native",
        "AVATAR_OPS_LIBRARY": str(build()),
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:abort_on_error=1",
    }
    # A crash must not be reported as a mere failure of one test: faulthandler would swallow the sanitizer's exit.
    command = [sys.executable, "-m", "pytest", "-p", "no:faulthandler", "-p", "no:cacheprovider", "-s", "tests/parity"]
    return subprocess.run([*command, *sys.argv[1:]], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
