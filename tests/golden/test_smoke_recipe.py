"""The first losses of the smoke recipes on the toy person: a change that moves them was meant to, or is a fault.

Rewrite the numbers after a change that should move them: `python -m tests.golden.test_smoke_recipe`, and say why.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from avatar.events import Event, Metric
from avatar.recipes import recipe
from avatar.train.loop import train
from tests.contract import toy

GOLDEN = Path(__file__).with_name("smoke_recipe.json")
SMALLER: dict[str, dict[str, int]] = {"gaussian/smoke": {"splats": 1500}, "field/smoke": {"motion_hidden": 16}}


def losses(name: str, folder: Path) -> dict[str, float]:
    """The loss at some steps of a shortened smoke recipe."""
    workspace = toy.workspace(folder, frames=20, size=64)
    config = recipe(name)
    head = replace(config.head, **SMALLER[name])
    config = replace(config, head=head, steps=40, shrink=1, threads=1, report_every=5)
    found: dict[str, float] = {}

    def listen(event: Event) -> None:
        if isinstance(event, Metric) and event.name == "loss":
            found[str(event.step)] = round(event.value, 5)

    train(workspace.root, config, listen)
    return found


@pytest.mark.parametrize("name", SMALLER)
def test_a_smoke_recipe_loses_what_it_always_lost(name, tmp_path):
    golden = json.loads(GOLDEN.read_text())
    assert losses(name, tmp_path) == pytest.approx(golden[name], rel=0.03)


if __name__ == "__main__":
    found = {}
    for smoke in SMALLER:
        with tempfile.TemporaryDirectory() as temporary:
            found[smoke] = losses(smoke, Path(temporary))
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(GOLDEN.read_text())
