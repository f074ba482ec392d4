"""Training on a device: everything is there, nothing is learned otherwise, and files do not know of it."""

from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from avatar import cli, ops
from avatar.core import RenderRequest
from avatar.errors import InputError
from avatar.events import Draft, Metric, Preview
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.models.avatar_model import AvatarModel
from avatar.ops import _backend
from avatar.ops.image import l1_ssim
from avatar.train import loop
from avatar.train.dataset import Dataset
from avatar.train.distil import Lessons
from avatar.train.session import Session
from tests.contract import toy
from tests.contract.trainings import HEADS, pixels, smaller
from tests.cuda_on_cpu import build
from tests.cuda_on_cpu.device import cuda_on_cpu
from tests.cuda_on_cpu.elsewhere import DEVICE, elsewhere

KERNELS = {
    "gaussian/smoke": {"adam", "pose_rig_backward", "bind_gaussians_backward", "rasterize_gaussians_backward"},
    "field/smoke": {"adam", "pose_rig", "march_rays", "hash_encode_backward", "composite_backward"},
}
needs_gpu = pytest.mark.skipif(bool(ops.without_gpu()), reason=f"no training on a GPU here: {ops.without_gpu()}")


@pytest.fixture
def workspace(tmp_path):
    return toy.workspace(tmp_path, frames=15, size=40)


def trained(workspace, config, **more):
    """Losses by step, drafts by step, number of previews, and the avatar."""
    losses, drafts, previews = {}, {}, []

    def listen(event):
        if isinstance(event, Metric) and event.name == "loss":
            losses[event.step] = event.value
        elif isinstance(event, Draft):
            drafts[event.step] = event.copy()
        elif isinstance(event, Preview):
            previews.append(event.image)

    (workspace.root / "avatar" / "avatar.json").unlink(missing_ok=True)
    made = AvatarModel.load(loop.train(workspace.root, config, listen, **more))
    return losses, drafts, len(previews), made


@pytest.mark.parametrize("name", HEADS)
def test_a_training_elsewhere_learns_the_same_through_the_cuda_kernels(name, workspace):
    """Tensors of two devices that meet are an error there, as on a GPU; and so is one that is made on the CPU."""
    config = smaller(name)
    losses, drafts, previews, avatar = trained(workspace, config, device="cpu")
    called = []
    with ExitStack() as places:
        if not build.missing():
            called = places.enter_context(cuda_on_cpu())
        places.enter_context(elsewhere())
        there = trained(workspace, config)
    assert there[0] == pytest.approx(losses, rel=2e-3) and len(losses) == 4
    assert there[2] == previews == 2
    assert torch.allclose(pixels(there[3]), pixels(avatar), atol=0.03)
    assert torch.allclose(pixels(there[1][4]), pixels(drafts[4]), atol=0.03)
    assert build.missing() or KERNELS[name] < {operator.removeprefix("avatar::") for operator in called}
    assert not torch.equal(pixels(drafts[1]), pixels(drafts[4]))


@pytest.mark.parametrize("name", HEADS)
def test_a_training_that_began_on_a_device_goes_on_here(name, workspace, monkeypatch):
    config = smaller(name, checkpoint_every=2)
    alone = trained(workspace, config, device="cpu")[3]
    report = loop._report

    def stop(session, *rest):
        report(session, *rest)
        if session.step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_report", stop)
    with elsewhere(), pytest.raises(KeyboardInterrupt):
        trained(workspace, config)
    monkeypatch.setattr(loop, "_report", report)
    losses, _, _, resumed = trained(workspace, config, device="cpu")
    assert list(losses) == [3, 4]
    assert torch.allclose(pixels(resumed), pixels(alone), atol=0.03)


@pytest.mark.parametrize("name", ["gaussian/smoke", "field/geneface"])
def test_a_moved_backbone_draws_the_same_and_comes_back_as_it_was(name, workspace):
    data = Dataset(workspace, load_track(workspace.path("track.safetensors")), smaller(name))
    session = Session.begin(PersonalRig.load(workspace.path("rig.safetensors")), data, smaller(name), "key")
    avatar = loop.as_avatar(session.backbone.eval(), data)
    some = torch.tensor([[20, 20], [12, 19], [3, 3]])
    asked = RenderRequest(camera=data.camera, motion=data.rest(), pixels=some)
    before, few = pixels(avatar), avatar.draw(asked).rgb
    with elsewhere() as device:
        avatar.to(device)
        assert avatar.backbone.device == DEVICE == avatar.rig.neutral.device
        assert torch.allclose(pixels(avatar), before, atol=1e-5)
        assert torch.allclose(avatar.draw(asked).rgb, few, atol=1e-5)
        assert avatar.draw(replace(asked, pixels=some[:0])).rgb.shape == (0, 3)
        avatar.to(torch.device("cpu"))
    assert torch.equal(pixels(avatar), before)


def test_lessons_of_a_teacher_elsewhere_are_those_of_the_same_teacher_here(workspace):
    data = Dataset(workspace, load_track(workspace.path("track.safetensors")), smaller("gaussian/smoke"))
    teacher = toy.avatar(size=40, splats=400)
    here = [Lessons(data, teacher).sample(step) for step in range(3)]
    with elsewhere() as device:
        there = [Lessons(data, teacher.to(device)).sample(step) for step in range(3)]
    assert all(torch.allclose(a.rgb, b.rgb, atol=1e-5) for a, b in zip(here, there, strict=True))


def test_tensors_of_two_devices_that_meet_are_an_error_elsewhere():
    with elsewhere() as device:
        far = torch.ones(3, device=device)
        assert (far + 1).tolist() == [2, 2, 2] and far.device == device
        for wrong in (lambda: far + torch.ones(3), lambda: far[torch.tensor([0])], far.numpy):
            with pytest.raises((AssertionError, RuntimeError)):
                wrong()


def test_the_slow_loss_of_pictures_gives_zero_and_one_without_weights():
    a, b, weight = torch.rand(12, 13, 3).double(), torch.rand(12, 13, 3).double(), torch.zeros(12, 13).double()
    a.requires_grad_()
    difference, similarity = l1_ssim(a, b, weight)
    assert (difference.item(), similarity.item()) == (0, 1)
    assert torch.autograd.grad(difference + similarity, a)[0].abs().max() == 0


def test_where_to_compute_is_chosen_by_what_is_there(monkeypatch):
    assert ops.device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="auto, cpu or cuda"):
        ops.device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(_backend, "_load", lambda: (None, "not built"))
    assert ops.device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match=r"--device cuda: .* missing \(not built\); install"):
        ops.device("cuda")
    library = SimpleNamespace(CUDA=False, instruction_set=lambda: "avx2")
    monkeypatch.setattr(_backend, "_load", lambda: (library, ""))
    with pytest.raises(InputError, match=r"AVATAR_CUDA=1 python setup\.py"):
        ops.device("cuda")
    library.CUDA = True
    assert ops.device("auto", 1) == ops.device("cuda", 1) == torch.device("cuda", 1)
    with pytest.raises(InputError, match="process 3 of this machine has no GPU: start 2"):
        ops.device("auto", 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_where_there_is_none_says_what_to_do(workspace, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["train", str(workspace.root), "--device", "cuda"])
    said = capsys.readouterr().err
    assert left.value.code == 2 and not (workspace.root / "avatar").exists()
    assert said.startswith("avatar: --device cuda: ") and "on the CPU" in said and len(said.splitlines()) == 1


@needs_gpu
@pytest.mark.parametrize("name", HEADS)
def test_a_gpu_learns_what_the_cpu_learns(name, workspace):
    config = smaller(name, steps=30)
    here, there = trained(workspace, config, device="cpu"), trained(workspace, config, device="cuda")
    assert there[0][30] == pytest.approx(here[0][30], rel=0.05)
    assert (pixels(there[3]) - pixels(here[3])).abs().mean() < 0.02
