"""Run a command and know its wall time and the peak memory of it and all its children (Linux, /proc)."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a command went."""

    command: str
    seconds: float
    peak_mb: float
    """Largest resident memory, summed over the command's processes, in 10^6 bytes."""
    code: int


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Finished:
    """Run to the end; what the command prints goes to stderr."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=cwd, env=dict(env) if env else None, stdout=sys.stderr)
    try:
        while process.poll() is None:
            tree = [process.pid, *_descendants(process.pid)]
            # One process knows its own peak exactly; more of them are caught by looking often.
            peak = max(peak, _kilobytes(process.pid, "VmHWM"), sum(_kilobytes(pid, "VmRSS") for pid in tree))
            time.sleep(_POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return Finished(
        command=" ".join(command),
        seconds=time.perf_counter() - start,
        peak_mb=peak * 1024 / 1e6,
        code=process.returncode,
    )


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants, now."""
    return 1024 * sum(_kilobytes(each, "VmRSS") for each in (pid, *_descendants(pid)))


def processor_seconds(pid: int) -> float:
    """Spent so far by a process, its descendants and the children that it waited for."""
    ticks = 0
    for each in (pid, *_descendants(pid)):
        try:
            fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _kilobytes(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found
