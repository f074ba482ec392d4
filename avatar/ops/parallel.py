"""Processes that train one avatar together, as `torchrun` starts them; a process on its own is a team of one.

Members draw samples of their own and do everything else alike: gradients are averaged, statistics brought together, and
one of them, the leader, decides where clocks and disks are looked at. On CPUs they talk by gloo, on GPUs by NCCL.
"""

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from avatar.errors import InputError
from avatar.ops import _backend

_PATIENCE = timedelta(days=2)
"""For the leader, who may preprocess a long film meanwhile. Whoever fails is missed at once: connections break, and
torchrun ends the others."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Team:
    """One member's view of the team."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    """Of this member."""
    gpus: Any = None
    """The group of torch.distributed for tensors on GPUs."""

    @property
    def leads(self) -> bool:
        """Whether it is this member who reports and writes files."""
        return self.rank == 0

    def passes(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` is among the steps that the team takes at once, `step` the first of them."""
        return -step % every < self.size

    def turns(self, start: int, stop: int) -> range:
        """The steps of this member, whose samples it draws; those of all members are as many."""
        rounds = -(-(stop - start) // self.size)
        return range(start + self.rank, start + rounds * self.size, self.size)

    def seed(self, seed: int, step: int) -> None:
        """Set torch's chance for a step of this member; a process alone lets it run on."""
        if self.size > 1:
            torch.manual_seed(hash((seed, step)) & 0x7FFFFFFF)

    def average(self, *tensors: Tensor) -> None:
        """In place, the mean over the members."""
        self._reduce(tensors, "SUM")
        for tensor in tensors if self.size > 1 else ():
            tensor.div_(self.size)

    def largest(self, *tensors: Tensor) -> None:
        """In place, the largest that any member has."""
        self._reduce(tensors, "MAX")

    def average_gradients(self, parameters: list[Tensor]) -> None:
        """Give all members the mean gradients; a member whose sample did not touch a parameter counts as zero."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.average(*(parameter.grad for parameter in parameters if parameter.grad is not None))

    def share(self, tensors: Mapping[str, Tensor]) -> None:
        """In place, what the leader has."""
        if self.size > 1:
            with _talking():
                for tensor in tensors.values():
                    dist.broadcast(tensor, 0, group=self._group(tensor))

    def told(self, value: float) -> float:
        """The leader's value."""
        if self.size == 1:
            return value
        number = torch.tensor(float(value), dtype=torch.float64)
        self.share({"": number})
        return float(number)

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """See that all members have the same.

        Raises:
            InputError: if they do not; what they made further would be nobody's avatar.
        """
        if self.size == 1:
            return
        sums = [t.detach().reshape(-1).view(torch.uint8).sum(dtype=torch.int64) for t in tensors.values()]
        mine = torch.stack([total.cpu() for total in sums])
        bounds = torch.stack([mine, -mine])
        self.largest(bounds)
        different = (bounds[0] != -bounds[1]).nonzero()[:, 0].tolist()
        if different:
            names = ", ".join(list(tensors)[i] for i in different[:3])
            raise InputError(
                f"the processes of this training disagree ({names}); start them on machines that are alike"
            )

    def wait(self) -> None:
        """Until all members are here."""
        if self.size > 1:
            with _talking():
                dist.barrier()

    def _reduce(self, tensors: tuple[Tensor, ...], name: str) -> None:
        if self.size == 1:
            return
        how = getattr(dist.ReduceOp, name)  # a torch built without torch.distributed has none, and trains alone
        with _talking():
            under_way = [dist.all_reduce(t, how, group=self._group(t), async_op=True) for t in tensors]
            for work in under_way:
                if work is not None:
                    work.wait()

    def _group(self, tensor: Tensor) -> Any:
        return self.gpus if tensor.device.type == "cuda" else None


ALONE = Team()


def join(device: str = "auto") -> Team:
    """The team that this process was started in, on a device as `ops.device` takes it; each member has its own GPU.

    Raises:
        InputError: if there is no such device, or fewer GPUs than processes on this machine.
    """
    rank, size, local = (int(os.environ.get(name) or usual) for name, usual in _STARTED.items())
    place = _backend.device(device, local)
    if size == 1:
        return Team(device=place)
    with _talking():
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_PATIENCE)
            # Gloo's threads must end before the interpreter does, which would abort and take the others along.
            atexit.register(dist.destroy_process_group)
        return Team(rank, size, place, _gpus(place) if place.type == "cuda" else None)


@lru_cache(maxsize=1)
def _gpus(mine: torch.device) -> Any:
    torch.cuda.set_device(mine)  # NCCL talks of this process's current one
    return dist.new_group(backend="nccl")


_STARTED = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
"""What torchrun tells a process of itself."""


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.distributed has no other
        said = str(error).partition("\n")[0]
        raise InputError(f"another process of this training is gone; what it said tells why ({said})") from error
