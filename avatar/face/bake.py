"""`python -m avatar.face.bake -o FILE`: turns the `anny` package into the small head rig that this library ships.

Samples adult heads of the Anny body model (Brégier et al. 2025; shapes of MakeHuman, CC0), aligns them, and keeps the
principal components as identity basis. Landmark calibration is `avatar.face.correspondence`, for
the inner lips `avatar.face.mouth_edge`.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from avatar.core import Region
from avatar.events import Done, Event, Metric, Progress, Sink, silent
from avatar.face import anny_mesh, anny_regions, arkit, correspondence
from avatar.face.anny_contact import LipCloser, lid_pairs
from avatar.face.anny_mesh import AnnySource, Bust
from avatar.face.mouth_edge import on_mouth_edges
from avatar.face.rig import AnnyRig, LandmarkTable, Piece, save_tensors

_HEAD_CHANGES = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "neck", "nose")
_BODY_CHANGES = ("torso-scale-horiz", "torso-vshape", "torso-trans-forward", "measure-shoulder-dist", "measure-neck")
_SIDEWAYS = ("head-trans-out", "mouth-trans-out", "neck-trans-out", "nose-trans-out")
_JOINTS = ("head", "neck01", *(f"{bone}.{side}" for bone in ("clavicle", "shoulder01", "upperarm01") for side in "RL"))
_SPREAD = 0.24
_MODES = 60
_FLIP = torch.tensor([-1.0, 1, 1])
_BATCH = 100
_PIECES = {
    "mouth_cavity": Piece.MOUTH_CAVITY,
    "tongue": Piece.TONGUE,
    "upper_teeth": Piece.UPPER_TEETH,
    "lower_teeth": Piece.LOWER_TEETH,
    "eye_cavity.R": Piece.RIGHT_SOCKET,
    "eye_cavity.L": Piece.LEFT_SOCKET,
    "right_eye": Piece.RIGHT_EYE,
    "left_eye": Piece.LEFT_EYE,
}
_IMPORTANCE = {
    Region.SKIN: 1.0,
    Region.BROWS: 1.0,
    Region.NOSE: 1.0,
    Region.LIPS: 1.0,
    Region.EYES: 0.3,
    Region.MOUTH: 0.1,
    Region.EARS: 0.4,
    Region.HAIR: 0.6,
    Region.NECK: 0.3,
    Region.TORSO: 0.1,
    Region.BACKGROUND: 0.0,
}
"""Weight of a vertex when the modes are ordered and chosen."""


def sample_coefficients(source: AnnySource, count: int, seed: int) -> Tensor:
    """Blend-shape coefficients [n k] of random adults; the first one is the middle of everything.

    The ranges are our choice and so become the prior of identity: grown-ups up to old age, any gender, weight, muscle
    and mix of ethnicities; local changes with a standard deviation of 0.24 of MakeHuman's full range, almost symmetric.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    uniform = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    gender = 0.5 - 0.5 * torch.cos(torch.pi * uniform[:, :1])
    age = 0.63 + 0.37 * uniform[:, 1:2].square()
    plain = (0.5 + 0.15 * normal(count, 4)).clamp(0.05, 0.95)
    cup = torch.full_like(age, 0.15)
    races = (-(1 - uniform[:, 2:]).log()).pow(1.5)  # leans to single ethnicities; only the ratio counts
    values = torch.cat([gender, age, plain, cup, races], 1)
    values[0] = torch.tensor([0.5, 0.7, 0.5, 0.5, 0.5, 0.5, 0.15, 1, 1, 1])
    weights = torch.zeros(count, len(source.labels), dtype=torch.float64)
    phenotypes = source.phenotype_weights(values)
    weights[:, : phenotypes.shape[1]] = phenotypes
    first = next(i for i, label in enumerate(source.labels) if label.startswith("local_change:"))
    shared: dict[str, Tensor] = {}
    for index in range(first, len(source.labels), 2):  # the shape of one direction, then of the opposite
        name = source.labels[index].removeprefix("local_change:")
        stem = name[2:] if name[:2] in ("l-", "r-") else name
        if stem.split("-")[0] not in _HEAD_CHANGES and not stem.startswith(_BODY_CHANGES):
            continue
        common = shared.setdefault(stem, normal(count))
        spread = _SPREAD * (0.3 if name.startswith(_SIDEWAYS) else 1)
        value = (spread * (0.97 * common + 0.24 * normal(count))).clamp(-1, 1)
        value[0] = 0
        weights[:, index], weights[:, index + 1] = value.clamp_min(0), (-value).clamp_min(0)
    return weights


def shape(source: AnnySource, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Base mesh with lowered arms [n 19158 3] and base of the neck [n 3]; head axes, skull joint at the origin."""
    data = source.data
    index = [data.metadata.bone_labels.index(name) for name in _JOINTS]
    vertices = data.template_vertices.float() + (weights.float() @ source.shapes).unflatten(1, (-1, 3))
    heads = data.bone_heads_blendshapes[:, index].float().flatten(1)
    joints = data.template_bone_heads[index].float() + (weights.float() @ heads).unflatten(1, (-1, 3))
    vertices, joints = anny_mesh.to_head_axes(vertices), anny_mesh.to_head_axes(joints)
    origin = joints[:, :1]
    vertices, joints = vertices - origin, joints - origin
    named = dict(zip(_JOINTS, joints.unbind(1), strict=True))
    return anny_mesh.lower_arms(source, vertices, named), named["neck01"]


def cut(source: AnnySource) -> Bust:
    """Choose the bust on the middle adult: all quads above the bust line, teeth, tongue, new eyeballs."""
    middle = shape(source, sample_coefficients(source, 1, 0))[0][0]
    faces, uvs, piece = [], [], []
    for name, quads in source.parts.quads.items():
        kept = anny_mesh.above_bust_line(middle, quads)
        triangles, uv = anny_mesh.triangulate(quads[kept], source.parts.quad_uv[name][kept].float(), middle)
        faces.append(triangles)
        uvs.append(uv)
        piece += [name] * len(triangles)
    used = torch.cat(faces).unique()
    renumber = torch.full((len(middle),), -1)
    renumber[used] = torch.arange(len(used))
    faces = [renumber[f] for f in faces]
    count, eyes, centres = len(used), [], []
    for name, old in zip(("right_eye", "left_eye"), source.eyes, strict=True):
        weights, centre, triangles, uv = anny_mesh.eyeball(middle[old].double())
        faces.append(triangles + count)
        uvs.append(uv.float())
        eyes.append(weights)
        centres.append(centre)
        piece += [name] * len(triangles)
        count += len(weights)
    uv = torch.cat(uvs)
    return Bust(
        base=used,
        eyes=(eyes[0], eyes[1]),
        eye_centres=(centres[0], centres[1]),
        faces=torch.cat(faces),
        uv=uv,
        piece=anny_regions.islands(source, uv, piece),
    )


def skin_weights(source: AnnySource, bust: Bust) -> Tensor:
    """Head, neck, torso [v 3] from Anny's bones; the neck joint is the middle of the three neck bones."""
    head = source.bone_weights(source.subtree("head"))
    low, middle, high = (source.bone_weights({name}) for name in ("neck01", "neck02", "neck03"))
    skull, neck = head + 0.5 * high, 0.5 * high + middle + 0.5 * low
    plain = torch.stack([skull, neck, 1 - skull - neck], 1)[bust.base]
    eyes = torch.tensor([[1.0, 0, 0]]).expand(sum(map(len, bust.eyes)), 3)
    return torch.cat([plain.float(), eyes])


def sample_heads(source: AnnySource, bust: Bust, coefficients: Tensor, sink: Sink) -> Tensor:
    """Points [n v+3 3] of the sampled heads: vertices, then base of the neck and both eye centres."""
    out = []
    for start in range(0, len(coefficients), _BATCH):
        sink(Progress(stage="sample", done=start, total=len(coefficients), unit="heads"))
        full, neck = shape(source, coefficients[start : start + _BATCH])
        out.append(torch.cat([bust.of(source, full), neck[:, None], bust.pivots(source, full)], 1))
    sink(Progress(stage="sample", done=len(coefficients), total=len(coefficients), unit="heads"))
    return torch.cat(out)


def align(points: Tensor, on: Tensor) -> Tensor:
    """Rigidly move every head [n p 3] onto the average of all, by the points `on` (Procrustes, no scale)."""
    target = points[0]
    for _ in range(3):
        goal, goal_mean = target[on] - target[on].mean(0), target[on].mean(0)
        chosen = points[:, on]
        means = chosen.mean(1, keepdim=True)
        u, _, vh = torch.linalg.svd((chosen - means).transpose(1, 2) @ goal)
        u[..., -1] *= torch.linalg.det(u @ vh)[:, None]
        points = (points - means) @ (u @ vh) + goal_mean
        target = points.mean(0)
    return points


def principal_modes(deviations: Tensor, weights: Tensor, mirror: Tensor, count: int) -> tuple[Tensor, float]:
    """Modes [k p 3] of one standard deviation each, symmetric and antisymmetric ones, largest first.

    Args:
        deviations: [n p 3] from the (symmetric) mean.
        weights: [p] importance of each point in the order of the modes.
        mirror: [p] the point on the other side.

    Returns:
        The modes, and which part of the weighted variance they carry.
    """
    reflected = deviations[:, mirror] * _FLIP
    found = []
    for half in (0.5 * (deviations + reflected), 0.5 * (deviations - reflected)):
        flat = (half * weights[:, None].sqrt()).flatten(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the method starts from random directions
            left, sizes, _ = torch.svd_lowrank(flat, q=count + 20, niter=4)
        total = flat.square().sum()
        scores = left * len(flat) ** 0.5
        modes = torch.einsum("nk,npc->kpc", scores, half) / len(flat)
        largest = modes.flatten(1).gather(1, modes.flatten(1).abs().argmax(1, keepdim=True))
        modes = modes * largest.sign()[..., None]  # the sign is arbitrary; this one is always the same
        found.append((sizes.square(), modes, total))
    power = torch.cat([found[0][0], found[1][0]])
    order = power.argsort(descending=True)[:count]
    modes = torch.cat([found[0][1], found[1][1]])[order]
    return modes, float(power[order].sum() / (found[0][2] + found[1][2]))


def bake(heads: int, seed: int, sink: Sink) -> dict[str, Tensor]:
    """Everything of the baked file but the landmarks."""
    source = AnnySource()
    bust = cut(source)
    coefficients = sample_coefficients(source, heads, seed)
    middle = sample_heads(source, bust, coefficients[:1], silent)[0]
    mirror = mirrored(middle, bust)
    actions = bust.of(source, source.actions().float())
    actions = 0.5 * (actions + actions[list(arkit.MIRROR)][:, mirror[: actions.shape[1]]] * _FLIP)
    skin = skin_weights(source, bust)
    jaw = actions[arkit.INDEX["jawOpen"]]
    blink = actions[arkit.INDEX["eyeBlinkLeft"]] + actions[arkit.INDEX["eyeBlinkRight"]]
    count = len(middle) - 3
    lips = LipCloser(middle[:count], bust.faces, bust.piece, jaw)
    nose = bust.of(source, source.data.blendshapes[source.labels.index("local_change:nose-trans-forward")].float())
    nose = nose.norm(dim=1) / nose.norm(dim=1).max()
    regions = anny_regions.paint(source, middle[:count], bust, skin, nose)
    kinds = torch.zeros(count, dtype=torch.uint8)
    kinds[bust.faces] = regions[:, None].expand(-1, 3)
    steady = torch.isin(kinds, torch.tensor([int(r) for r in (Region.SKIN, Region.BROWS, Region.NOSE, Region.HAIR)]))
    points = align(sample_heads(source, bust, coefficients, sink), steady.nonzero()[:, 0])
    for start in range(0, heads, _BATCH):
        points[start : start + _BATCH, :count] = lips(points[start : start + _BATCH, :count])
    mean = points.mean(0)
    mean = 0.5 * (mean + mean[mirror] * _FLIP)
    importance = torch.tensor([_IMPORTANCE[Region(int(k))] for k in kinds] + [0.0] * 3)
    modes, kept = principal_modes(points - mean, importance, mirror, _MODES)
    sink(Metric(stage="bake", name="variance_kept", value=kept, step=_MODES))
    mean[:count, 1].clamp_(max=anny_mesh.BUST_BOTTOM)
    upper, lower = lid_pairs(mean[:count], bust.faces, bust.piece, blink)
    eye_weights = torch.zeros(count, 2)
    right = len(bust.base) + len(bust.eyes[0])
    eye_weights[len(bust.base) : right, 0], eye_weights[right:, 1] = 1, 1
    zero = torch.zeros(1, 3)
    return {
        "mean": mean[:count],
        "modes": modes[:, :count].half(),
        "actions": actions.half(),
        "faces": bust.faces.to(torch.int16),
        "regions": regions,
        "pieces": torch.tensor([_PIECES.get(name, Piece.SKIN) for name in bust.piece], dtype=torch.uint8),
        "skin": skin.half(),
        "eye_weights": eye_weights.half(),
        "uv": anny_regions.pack(bust.uv, bust.piece),
        "mirror": mirror[:count].to(torch.int16),
        "lids_upper": upper.to(torch.int16),
        "lids_lower": lower.to(torch.int16),
        "pivots_mean": torch.cat([zero, mean[count:]]),
        "pivots_modes": torch.cat([zero.expand(_MODES, 1, 3), modes[:, count:]], 1),
    }


def mirrored(middle: Tensor, bust: Bust) -> Tensor:
    """The point on the other side of each of the bust's points and pivots."""
    count = len(middle) - 3
    mirror = torch.cdist(middle[:count] * _FLIP, middle[:count]).argmin(1)
    return torch.cat([mirror, torch.tensor([count, count + 2, count + 1])])


def with_landmarks(tensors: dict[str, Tensor], table: LandmarkTable | None) -> dict[str, Tensor]:
    """The baked tensors with a landmark table, or with one in which no landmark is usable."""
    if table is None:
        nothing = torch.zeros(correspondence.COUNT)
        third = torch.full((correspondence.COUNT, 3), 1 / 3)
        table = LandmarkTable(triangles=nothing.long(), barycentric=third, sigma=nothing + 1, usable=nothing.bool())
    return tensors | {
        "landmark_triangles": table.triangles.to(torch.int16),
        "landmark_barycentric": table.barycentric,
        "landmark_sigma": table.sigma,
        "landmark_usable": table.usable,
    }


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m avatar.face.bake", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--heads", type=int, default=2500, help="sampled heads behind the identity basis")
    parser.add_argument("--pictures", type=int, default=320, help="painted heads for the landmark calibration")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def report(event: Event) -> None:
        sys.stderr.write(f"{event}\n")

    tensors = with_landmarks(bake(options.heads, options.seed, report), None)
    table = correspondence.calibrate(AnnyRig(tensors), pictures=options.pictures, seed=options.seed, sink=report)
    tensors = with_landmarks(tensors, on_mouth_edges(AnnyRig(tensors), table))
    facts = {"source": "Anny (Apache-2.0) and MakeHuman (CC0)", "heads": str(options.heads), "seed": str(options.seed)}
    save_tensors({name: t.contiguous() for name, t in tensors.items()}, options.output, facts)
    report(Done(stage="bake", seconds=time.monotonic() - began, outputs=(options.output,)))


if __name__ == "__main__":
    main()
