"""What a head is and where it is: the rig, ARKit's names, landmarks, tracking, parsing."""

from avatar.face.arkit import INDEX, MIRROR, NAMES
from avatar.face.rig import AbstractRig, AnnyRig, LandmarkTable, PersonalRig

__all__ = ["INDEX", "MIRROR", "NAMES", "AbstractRig", "AnnyRig", "LandmarkTable", "PersonalRig"]
