"""How good is an avatar: numbers and pictures on the part of the clip that training never saw."""

from avatar.evaluate.config import EvaluateConfig
from avatar.evaluate.evaluation import evaluate

__all__ = ["EvaluateConfig", "evaluate"]
