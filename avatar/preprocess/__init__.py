"""Video to workspace, in stages that resume."""

from avatar.preprocess.config import PreprocessConfig
from avatar.preprocess.pipeline import preprocess
from avatar.preprocess.tools import Tools

__all__ = ["PreprocessConfig", "Tools", "preprocess"]
