"""The benchmark's table as text, rows of other modules, and whether the figures that we promise are reached."""

import importlib
import importlib.util
import inspect
import itertools
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.perf import gsplat_torch
from tests.perf.head_scene import head_scene, view_of_head
from tests.perf.timing import Times, environment, judged, milliseconds

OTHER_MODULES = ("tests.perf.field_ops", "tests.perf.pipeline")
_SETS = ("avx512", "avx2", "portable")
_TURNS = 5


def machine() -> dict[str, Any]:
    """Processor, cores, and versions."""
    name = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        lines = [
            line.split(":", 1)[1].strip() for line in listing.read_text().splitlines() if line.startswith("model name")
        ]
        name = lines[0] if lines else name
    return {"processor": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def rows_of_other_modules(given: dict[str, Sequence[int]]) -> dict[str, dict[str, Any]]:
    """Each `measure_*` of the modules that bring their own rows, for each combination of what is given.

    A function takes any of `threads, repeats, splats, size` and returns a mapping, at any depth, to times with
    `wall_ms`. One that needs more (such as minutes of frames) is run by its own module.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in OTHER_MODULES:
        if importlib.util.find_spec(name) is None:
            continue
        for label, measure in sorted(vars(importlib.import_module(name)).items()):
            if not label.startswith("measure_") or getattr(measure, "__module__", "") != name:
                continue
            wanted = inspect.signature(measure).parameters
            if any(p.default is p.empty and key not in given for key, p in wanted.items()):
                continue
            chosen = {key: values for key, values in given.items() if key in wanted}
            for values in itertools.product(*chosen.values()):
                call = dict(zip(chosen, values, strict=True))
                size = "@".join(str(call[key]) for key in ("splats", "size") if key in call)
                _flatten(f"{label.removeprefix('measure_')} {size}".strip(), measure(**call), rows)
    return rows


def _flatten(label: str, found: Any, rows: dict[str, dict[str, Any]]) -> None:
    """Rows out of nested mappings; what is called "... native" and "... torch" becomes one row with a ratio."""
    if not isinstance(found, dict) or "wall_ms" in found or not any(isinstance(v, dict) for v in found.values()):
        rows[label] = found if isinstance(found, dict) else {"value": found}
        return
    for key, value in found.items():
        judge = found.get(f"{key.removesuffix('native')}torch") if key.endswith("native") else None
        if judge is not None and "wall_ms" in value:
            rows[f"{label} {key.removesuffix('native').strip(' ,')}".strip()] = judged(value, {"torch": judge})
        elif not key.endswith(("torch", "torch over native")):
            _flatten(f"{label} {key}", value, rows)


def instruction_sets(measure: Callable[[int, int, int], dict[str, Times]], repeats: int) -> dict[str, dict[str, float]]:
    """Best times of the rasteriser, 50,000 splats at 512 px, on each build of its loops that this machine can run.

    They take turns, so that other load meets them alike.
    """
    from avatar import ops

    found: dict[str, dict[str, float]] = {}
    for _ in range(_TURNS):
        for name in _SETS:
            with environment("AVATAR_OPS_ISA", name):
                if ops.describe()["instruction_set"] != name:
                    continue
                for mode, times in measure(50_000, 512, max(repeats // _TURNS, 2)).items():
                    best = found.setdefault(name, {})
                    best[mode] = min(best.get(mode, times["best_ms"]), times["best_ms"])
    return found


def gsplat_tile_list_seconds() -> float | None:
    """gsplat's own list of tiles, which the ratios leave out: a Python loop over splats."""
    if not gsplat_torch.available():
        return None
    work = gsplat_torch.tile_list_of_gsplat(head_scene(50_000), view_of_head(512))
    return round(milliseconds(work, 1)["wall_ms"] / 1e3, 2)


def verdicts(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Figure, bound and whether it is met, of each promise that the rows can answer."""
    rows = results["rows"]
    forward, both = (rows[f"rasterize {mode} 50000@512"] for mode in ("forward", "forward_backward"))
    sets = results["instruction_sets"]
    asked: list[tuple[str, float | None, str, float]] = [
        ("rasterize 50k@512 forward, ms", forward["wall_ms"], "<=", 15),
        ("rasterize 50k@512 forward + backward, ms", both["wall_ms"], "<=", 40),
        ("forward, times gsplat's torch code", forward.get("x_gsplat"), ">=", 60),
        ("forward + backward, times gsplat's torch code", both.get("x_gsplat"), ">=", 40),
        ("l1_ssim @512 forward + backward, times torch", rows["l1_ssim forward_backward @512"]["x_torch"], ">=", 5),
    ]
    if "avx512" in sets and "avx2" in sets:
        for mode in ("forward", "forward_backward"):
            slower = sets["avx2"][mode] / sets["avx512"][mode]
            asked.append((f"AVX2 over AVX-512, {mode}, best runs", round(slower, 2), "<=", 1.5))
    for label, what, bound in (
        ("motion_to_picture", "motion to picture", 25),
        ("training_step", "a training step", 80),
    ):
        if row := rows.get(f"{label} 50000@512"):
            asked.append((f"{what}, 50k@512, ms", row["wall_ms"], "<=", bound))
    for judge, bound in (("nerfstudio torch", 35), ("drjit", 4)):
        for points in ("random points", "points along rays"):
            value = rows.get(f"field hashgrid ratio to {judge}, {points}", {}).get("value")
            asked.append((f"hash grid, {points}, times {judge}", value, ">=", bound))
    if growth := results.get("growth"):
        first, *_, last = growth.values()
        asked.append((f"memory {list(growth)[-1]} frames, MB more", round(last - first, 1), "<=", 10))
    return [
        {"what": what, "value": value, "bound": f"{sign} {bound}", "met": _met(value, sign, bound)}
        for what, value, sign, bound in asked
    ]


def _met(value: float | None, sign: str, bound: float) -> bool | None:
    if value is None:
        return None
    return value <= bound if sign == "<=" else value >= bound


_COLUMNS = (
    ("median ms", "wall_ms", 10),
    ("best", "best_ms", 9),
    ("cpu ms", "cpu_ms", 9),
    ("x torch", "x_torch", 9),
    ("x gsplat", "x_gsplat", 9),
    ("% memory", "bandwidth_percent", 9),
    ("% peak", "peak_percent", 8),
)


def row_lines(name: str, row: dict[str, Any]) -> list[str]:
    """One row of the table, and what else it says."""
    if "wall_ms" not in row:
        return [f"{name:44} {row}"]
    cells = "".join(f"{row.get(key, '-'):>{width}}" for _, key, width in _COLUMNS)
    known = {key for _, key, _ in _COLUMNS} | {"runs", "judges", "roofline", "counts"}
    more = {key: value for key, value in row.items() if key not in known}
    return [f"{name:44}{cells}", *([f"    {more}"] if more else [])]


def as_text(results: dict[str, Any]) -> str:
    """Everything for a terminal."""
    limits, where = results["limits"], results["machine"]
    lines = [
        f"{results['date']}  {where['processor']}, {where['threads']} threads, {results['ops']['instruction_set']}, "
        f"torch {where['torch']}; load {where['load'][0]} to {where['load'][1]} on {os.cpu_count()} cores",
        f"memory {limits['bandwidth_GB_s']} GB/s (triad), peak {limits['peak_GFLOP_s']} GFLOP/s (matrix product)",
        "",
        f"{'':44}" + "".join(f"{title:>{width}}" for title, _, width in _COLUMNS),
    ]
    lines += [line for name, row in results["rows"].items() for line in row_lines(name, row)]
    if results.get("growth"):
        lines += ["", f"resident memory, MB, motion to picture: {results['growth']}"]
    lines += ["", "instruction sets, 50000@512, best ms (forward, forward + backward):"]
    for name, times in results["instruction_sets"].items():
        lines.append(f"  {name:10} {times['forward']:8} {times['forward_backward']:8}")
    lines += ["", "x torch: the plain torch reference; for l1_ssim five depthwise convolutions."]
    lines += [f"x gsplat: {gsplat_torch.REPLACED}."]
    if not gsplat_torch.available():
        lines.append("  gsplat is not installed: pip install --no-deps gsplat==1.5.3")
    elif results["tile_list_of_gsplat_s"] is not None:
        lines.append(
            f"  Not counted: gsplat's own _isect_tiles takes {results['tile_list_of_gsplat_s']} s at 50000@512."
        )
    lines += ["", "shares of memory and peak count (a row of forward_backward shows its backward part):"]
    lines += [f"  {name:26} {formula}" for name, formula in results["needs"].items()]
    lines += ["", *(_verdict(bar) for bar in results["bars"])]
    return "\n".join(lines)


def _verdict(bar: dict[str, Any]) -> str:
    word = {True: "met", False: "MISSED", None: "not measured"}[bar["met"]]
    return f"{bar['what']:50} {bar['value']!s:>8}  {bar['bound']:8} {word}"
