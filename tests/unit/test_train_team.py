"""Several processes train one avatar: they stay alike to the last bit, learn what one does, and end together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avatar import cli
from avatar.errors import InputError
from avatar.events import Progress
from avatar.models.avatar_model import AvatarModel
from avatar.ops import parallel
from avatar.ops.parallel import Team
from avatar.train import loop
from tests.contract import toy
from tests.contract.trainings import HEADS, for_team, pixels

ROOT = Path(__file__).parents[2]
KINDS = [name.split("/")[0] for name in HEADS]
FAR = {"gaussian/smoke": 0.0102, "field/smoke": 0.0147}
"""Mean difference of the pictures of a person before and after such a training."""

GATHERED = {
    "gaussian/smoke": {"pull": [0.5], "seen": [0.5], "strongest": [1.0]},
    "field/smoke": {"level": [1.0], "met": [1.0], "part": [1.0]},
}
"""What changes, and by how much, where another member has one more: means of counts and pulls, largest of the rest."""


def start(*arguments: str) -> list[subprocess.Popen]:
    """Two processes, told of each other as torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    others = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **others, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]  # fmt: skip


def ended(team: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit code, output and messages of each."""
    try:
        said = [member.communicate(timeout=240) for member in team]
    finally:
        for member in team:
            member.kill()
    return [(member.returncode, *texts) for member, texts in zip(team, said, strict=True)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder for each kind, learned by a team of two that was stopped and went on; then one of them failed."""
    made = tmp_path_factory.mktemp("team")
    for kind in (*KINDS, "fails"):
        (made / kind).mkdir()
        toy.workspace(made / kind, frames=15, size=40)
    return made, ended(start("tests.contract.trainings", str(made)))


@pytest.fixture
def folder(run):
    made, ends = run
    assert all((made / kind / f"{rank}.pt").exists() for kind in KINDS for rank in (0, 1)), ends
    return made


@pytest.mark.parametrize("name", HEADS)
def test_members_are_alike_to_the_last_bit_and_one_of_them_speaks_and_writes(name, folder):
    here = folder / name.split("/")[0]
    leader, other = (torch.load(here / f"{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(tensor, other["state"][key]) for key, tensor in leader["state"].items())
    assert leader["seconds"] == other["seconds"] > 0  # by them a training is called done
    assert not other["done"] and leader["done"][-1] == for_team(name).steps
    assert leader["moved"] > 0 or name != "gaussian/smoke"
    assert {path.name for path in (here / "me" / "train").iterdir()} == {"log.json"}
    assert AvatarModel.load(here / "me" / "avatar").meta.trained["steps"] == for_team(name).steps


@pytest.mark.parametrize("name", HEADS)
def test_members_share_the_steps_and_go_on_where_they_were_stopped(name, folder):
    here, steps = folder / name.split("/")[0], for_team(name).steps
    drawn = [torch.load(here / f"{rank}.pt")["drawn"] for rank in (0, 1)]
    firsts = [first for first, _ in drawn[0]]
    assert firsts == [first for first, _ in drawn[1]] == [*range(0, 13, 2), *range(8, steps, 2)]
    assert [index for _, index in drawn[0]] != [index for _, index in drawn[1]]
    twice = [dict.fromkeys(pairs) for pairs in drawn]
    assert all(len(pairs) == len({first for first, _ in pairs}) for pairs in twice)  # a step's sample is the same again


@pytest.mark.parametrize("name", HEADS)
def test_a_team_learns_what_a_process_alone_learns(name, folder, tmp_path):
    made = AvatarModel.load(folder / name.split("/")[0] / "me" / "avatar")
    workspace = toy.workspace(tmp_path, frames=15, size=40)
    alone = AvatarModel.load(loop.train(workspace.root, for_team(name), device="cpu"))
    assert (pixels(made) - pixels(alone)).abs().mean() < FAR[name] / 2


def test_who_fails_ends_the_others_and_what_was_learned_is_taken_up_alone(run):
    made, ((code, _, message), (failed, _, _)) = run
    assert failed == 3 and code != 0 and "another process of this training is gone" in message
    workspace, heard = made / "fails" / "me", []
    assert not (workspace / "avatar").exists()
    loop.train(workspace, for_team("gaussian/smoke"), heard.append, device="cpu")
    assert heard[0] == Progress(stage="train", done=8, total=19, unit="steps")


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_no_round_of_upkeep_is_missed_or_done_twice_by_a_team_of_any_size(size):
    for every in (1, 4, 7, 16):
        firsts = [first for first in range(0, 224, size) if Team(0, size).passes(first, every)]
        assert firsts == sorted({due // size * size for due in range(0, 224 + size, every) if due // size * size < 224})


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_turns_are_as_many_for_each_member_and_cover_the_steps_once(size):
    turns = [Team(rank, size).turns(20, 101) for rank in range(size)]
    assert len({len(steps) for steps in turns}) == 1
    taken = sorted(step for steps in turns for step in steps)
    assert taken == list(range(20, 20 + len(taken))) and 0 <= len(taken) - 81 < size


def test_a_process_alone_is_a_team_that_changes_nothing():
    team, numbers = parallel.join("cpu"), torch.tensor([1.0, 2.0])
    assert team == parallel.ALONE and team.leads and team.told(3.5) == 3.5
    before = torch.get_rng_state()
    team.average(numbers)
    team.largest(numbers)
    team.share({"n": numbers})
    team.check({"n": numbers})
    team.wait()
    team.seed(1, 2)
    assert numbers.tolist() == [1, 2] and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", HEADS)
def test_upkeep_brings_together_what_members_saw(name, monkeypatch):
    """Of two members whose tensors differ by one everywhere."""

    def reduced(tensor, how, *, group, async_op):
        tensor.copy_(2 * tensor + 1 if how == torch.distributed.ReduceOp.SUM else (tensor + 1).clamp(max=3))

    head = for_team(name).head.begin(toy.rig(10), [], toy.motion())
    upkeep = head.upkeep(10, Team(0, 2))
    before = {key: tensor.clone() for key, tensor in upkeep.to_tensors().items()}
    monkeypatch.setattr(parallel.dist, "all_reduce", reduced)
    upkeep.gather()
    found = {key: (tensor - before[key]).float().unique().tolist() for key, tensor in upkeep.to_tensors().items()}
    assert {key: change for key, change in found.items() if change != [0]} == GATHERED[name]


def test_members_that_have_become_different_are_found_out(monkeypatch):
    mine = {
        "same": torch.arange(5),
        "other": torch.tensor([True, False]),
        "none": torch.empty(0),
        "one": torch.tensor(2),
    }
    theirs = torch.tensor([10, 2, 0, 2])

    def reduced(tensor, how, *, group, async_op):
        assert how == torch.distributed.ReduceOp.MAX
        tensor.copy_(torch.maximum(tensor, torch.stack([theirs, -theirs])))

    monkeypatch.setattr(parallel.dist, "all_reduce", reduced)
    with pytest.raises(InputError, match=r"disagree \(other\)"):
        Team(0, 2).check(mine)
    theirs[1] = 1
    Team(0, 2).check(mine)


def test_commands_that_do_not_train_are_for_one_process(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as left:
        cli.main(["evaluate", str(tmp_path)])
    assert left.value.code == 2 and "torchrun is for build, train and distil" in capsys.readouterr().err
