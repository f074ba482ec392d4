"""What this machine can do, what is missing and how to mend it."""

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from typing import Any

_PARTS = {
    "mediapipe": ("preprocess", "finding faces in your video (build, preprocess, evaluate)"),
    "pocketsphinx": ("preprocess", "lips from sound (drive --audio)"),
    "silero-vad": ("preprocess", "telling a voice from music and noise (drive --audio)"),
    "flip-evaluator": ("preprocess", "the FLIP column of the report"),
    "espeakng-loader": ("demo", "the demo's voice"),
    "aiohttp": ("viewer", "the viewer in the browser (view)"),
    "anny": ("bake", "baking the head model again (the baked one is included)"),
}
_ACCELERATORS = ("gsplat", "nerfacc", "tinycudann", "pytorch3d", "face-alignment", "h5py", "onnxruntime", "viser")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    name: str
    state: str
    """ok, missing or slow."""
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at the machine; touches no GPU beyond asking whether there is one."""
    return [*_machine(), *_native(), *_optional()]


def as_text(findings: list[Finding]) -> str:
    """The findings as lines for a terminal."""
    width = max(len(f.name) for f in findings)
    marks = {"ok": "ok     ", "missing": "missing", "slow": "slow   "}
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.state]}  {finding.name:<{width}}  {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':>9}{'':<{width}}  -> {finding.remedy}")
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings as plain JSON values."""
    return {f.name: {"state": f.state, "detail": f.detail, "remedy": f.remedy} for f in findings}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> list[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = "unknown memory"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB of memory"
    free = shutil.disk_usage(".").free / 2**30
    low = free < 2
    return [
        Finding(name="machine", state="ok", detail=f"{platform.machine()}, {cores} cores, {memory}"),
        Finding(
            name="disk",
            state="slow" if low else "ok",
            detail=f"{free:.1f} GB free here",
            remedy="a build of a 5-minute video needs about 2 GB" if low else "",
        ),
        Finding(name="python", state="ok", detail=platform.python_version()),
        Finding(name="torch", state="ok", detail=f"{torch.__version__}, {torch.get_num_threads()} threads"),
        _gpu(),
    ]


def _gpu() -> Finding:
    import torch

    from avatar import ops

    if not torch.cuda.is_available():
        return Finding(name="gpu", state="ok", detail="none, and none is needed")
    name, count = torch.cuda.get_device_name(), torch.cuda.device_count()
    if why := ops.without_gpu():
        return Finding(name="gpu", state="slow", detail=f"{name}, not used", remedy=why)
    return Finding(
        name="gpu", state="ok", detail=f"{name}{f' and {count - 1} more' * (count > 1)}: trainings run there"
    )


def _native() -> list[Finding]:
    from avatar import ops

    facts = ops.describe()
    if facts["backend"] == "native":
        cuda = "CPU and CUDA" if facts["cuda_kernels"] else "CPU only"
        detail = f"compiled, {cuda}, instruction set {facts['instruction_set']}, {facts['threads']} threads"
        return [Finding(name="kernels", state="ok", detail=detail)]
    detail = f"the slow reference in plain torch is in use: {facts['why']}"
    return [Finding(name="kernels", state="slow", detail=detail, remedy=facts["mend"])]


def _optional() -> list[Finding]:
    findings = []
    for name, (extra, purpose) in _PARTS.items():
        version = _version(name)
        findings.append(
            Finding(
                name=name,
                state="ok" if version else "missing",
                detail=f"{version or 'not installed'}: {purpose}",
                remedy="" if version else f"pip install 'avatar[{extra}]'",
            )
        )
    findings.append(_perceptual())
    found = [f"{n} {v}" for n in _ACCELERATORS if (v := _version(n))]
    findings.append(Finding(name="others", state="ok", detail=", ".join(found) or "no optional accelerator installed"))
    return findings


def _perceptual() -> Finding:
    from avatar.ops.lpips import HOW_TO, weight_files

    if files := weight_files():
        return Finding(name="lpips", state="ok", detail=f"{files.backbone}: gaussian/best and reports use it")
    detail = f"no weights; none are needed, gaussian/best and reports would use them ({HOW_TO})"
    return Finding(name="lpips", state="ok", detail=detail)
