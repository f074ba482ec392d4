"""Complete training configurations by name; a variant is a few changed fields."""

from avatar.errors import InputError
from avatar.recipes import field, gaussian
from avatar.train.config import TrainConfig

RECIPES = {
    "gaussian/base": gaussian.base,
    "gaussian/best": gaussian.best,
    "gaussian/fast": gaussian.fast,
    "gaussian/smoke": gaussian.smoke,
    "field/base": field.base,
    "field/fast": field.fast,
    "field/smoke": field.smoke,
    "field/geneface": field.geneface,
    "field/synctalk": field.synctalk,
}


def recipe(name: str) -> TrainConfig:
    """The configuration called `name`.

    Raises:
        InputError: if there is none.
    """
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()
