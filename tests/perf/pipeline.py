"""Times of what happens around the rasteriser: motion to picture, one training step, bind and blend, Adam.

Each function returns `milliseconds` of the work, and of the plain torch version of the same work in the same run.
"""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from avatar.core import Camera, MotionFrame, RenderRequest
from avatar.face.rig import AnnyRig
from avatar.models.conditioning import Conditioning
from avatar.models.gaussian_head import GaussianConfig, GaussianHead
from avatar.models.gaussian_seed import seed
from avatar.ops.optimize import SplatAdam, adam_step
from avatar.train.config import TrainConfig
from avatar.train.dataset import Sample
from avatar.train.loop import take_step
from avatar.train.session import Session
from tests.perf.timing import milliseconds

Times = dict[str, dict[str, float]]


def head_of(splats: int, terms: int = 20) -> GaussianHead:
    """The mean person of the baked rig, with a basis that moves every splat."""
    family = AnnyRig.load()
    rig = family.personal(torch.zeros(family.identity_size))
    torch.manual_seed(0)
    head = GaussianHead(rig, seed(rig, [], splats), Conditioning(terms), GaussianConfig(splats=splats, basis=terms))
    torch.nn.init.normal_(head.basis, std=0.05)
    return head


def request_of(size: int, moment: int = 0) -> RenderRequest:
    """Head and shoulders in front of the camera, doing something else at each moment."""
    generator = torch.Generator().manual_seed(moment)
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.0, 0.03, 0.62]) + 0.005 * torch.randn(3, generator=generator)
    motion = MotionFrame(
        expression=0.4 * torch.rand(52, generator=generator),
        T_world_head=pose,
        neck=0.05 * torch.randn(3, generator=generator),
        gaze=0.1 * torch.randn(2, 2, generator=generator),
    )
    focal, center = (1.6 * size, 1.6 * size), (size / 2, size / 2)
    return RenderRequest(
        camera=Camera(T_world_camera=torch.eye(4), focal=focal, center=center, size=(size, size)), motion=motion
    )


@contextmanager
def plain_torch(*modules: object) -> Iterator[None]:
    """The modules' plain torch versions instead of their compiled ones."""
    before = [vars(module)["compiled_for"] for module in modules]
    try:
        for module in modules:
            vars(module)["compiled_for"] = lambda tensor: False
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            vars(module)["compiled_for"] = function


def _both(work: Callable[[], object], repeats: int) -> Times:
    """Compiled and plain torch; the rasteriser and the picture loss stay compiled."""
    from avatar.ops import binding, optimize, posing

    times = {"native": milliseconds(work, repeats)}
    with plain_torch(binding, optimize, posing):
        times["torch"] = milliseconds(work, max(repeats // 4, 2))
    times["torch over native"] = {k: round(times["torch"][k] / v, 2) for k, v in times["native"].items() if v}
    return times


def measure_motion_to_picture(splats: int, size: int, repeats: int) -> Times:
    """Pose the rig, bind, blend 20 terms, project and rasterise; another motion at each call."""
    head, moments = head_of(splats).eval().requires_grad_(False), iter(range(10**9))
    requests = [request_of(size, i) for i in range(16)]
    with torch.no_grad():
        times = _both(lambda: head.render(requests[next(moments) % 16]), repeats)
    times["frames a second"] = {"wall": round(1e3 / times["native"]["wall_ms"], 1)}
    return times


def measure_bind(splats: int, repeats: int) -> Times:
    """Pose, bind and blend 20 terms: forward, and forward with backward to all that has a gradient."""
    head, request = head_of(splats), request_of(64)
    wanted = [head.basis, *head.parameters()]
    wanted = [p for i, p in enumerate(wanted) if i == 0 or p is not head.basis]
    with torch.no_grad():
        upstream = [torch.randn_like(part) for part in head.render(request).aux["splats"]]
        times = {f"forward, {name}": t for name, t in _both(lambda: _drawn(head, request), repeats).items()}

    def both() -> None:
        torch.autograd.grad(_drawn(head, request), wanted, upstream, allow_unused=True)

    return times | {f"forward and backward, {name}": t for name, t in _both(both, repeats).items()}


def _drawn(head: GaussianHead, request: RenderRequest) -> tuple[torch.Tensor, ...]:
    return tuple(head._bound(request.motion, activate=True))


def measure_adam(splats: int, repeats: int, seen: float = 0.5) -> Times:
    """A step of the basis with 20 terms, `seen` of whose rows have a gradient; and torch's own fused Adam."""
    generator = torch.Generator().manual_seed(0)
    value, mean, square = (torch.rand(splats, 13, 20, generator=generator) for _ in range(3))
    rows, terms = torch.randn(splats, 13, generator=generator), torch.randn(20, generator=generator)
    rows[torch.rand(splats, generator=generator) > seen] = 0
    rates = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "step": 5.0}
    times = _both(lambda: adam_step(value, rows, (mean, square), rates, terms=terms, skip=True), repeats)
    parameter = torch.nn.Parameter(value.clone())
    fused = torch.optim.Adam([parameter], fused=True)

    def whole() -> None:
        parameter.grad = rows[:, :, None] * terms
        fused.step()

    return times | {"torch.optim.Adam, fused": milliseconds(whole, repeats)}


def sample_of(size: int) -> Sample:
    """A noisy picture to learn, with a plain background."""
    request, generator = request_of(size), torch.Generator().manual_seed(1)
    row, column = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    alpha = (row.square() + column.square() < 0.6).float()
    return Sample(
        index=0, camera=request.camera, motion=request.motion, alpha=alpha,
        rgb=torch.rand(size, size, 3, generator=generator), weight=0.3 + alpha,
        background=torch.rand(size, size, 3, generator=generator),
    )  # fmt: skip


def session_of(splats: int) -> Session:
    """A training of the full recipe's kind on the mean person."""
    head = head_of(splats).train()
    groups = [{**group, "start": group["lr"]} for group in head.parameter_groups()]
    optimizer = SplatAdam(groups, outer=head.outer_gradients())
    config = TrainConfig(name="benchmark", head=head.config)
    return Session(backbone=head, upkeep=head.upkeep(6000), optimizer=optimizer, config=config, key="")


def measure_training_step(splats: int, size: int, repeats: int) -> Times:
    """One step of the main job: draw, composite, compare, go back, move, keep up."""
    session, sample, steps = session_of(splats), sample_of(size), iter(range(1, 10**9))

    def work() -> None:
        take_step(session, sample, next(steps))

    return _both(work, repeats)


def resident_mb() -> float:
    """Memory of this process that is in RAM now."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure_growth(frames: int, splats: int = 50_000, size: int = 512) -> dict[str, float]:
    """Megabytes of RAM after a tenth of the frames and after all."""
    head = head_of(splats).eval().requires_grad_(False)
    requests = [request_of(size, i) for i in range(16)]
    marks = {}
    with torch.no_grad():
        for i in range(frames):
            head.render(requests[i % 16])
            if i + 1 in (frames // 10, frames // 2, frames):
                marks[f"after {i + 1}"] = round(resident_mb(), 1)
    return marks
