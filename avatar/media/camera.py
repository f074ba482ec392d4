"""A camera of this machine as timed pictures. Needs OpenCV."""

import time
from collections.abc import Iterator

import numpy as np

from avatar.errors import InputError

_PATIENCE = 2.0
"""Seconds without a picture after which the camera counts as gone."""


def camera_pictures(number: int, seconds: float) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds since the first picture, uint8 [h w 3] sRGB) as they come, not mirrored.

    Args:
        number: 0 is the first camera.
        seconds: how long.

    Raises:
        InputError: when there is no such camera, or it stops.
    """
    import cv2

    camera = cv2.VideoCapture(number)
    start = last = time.monotonic()
    shown = False
    try:
        if not camera.isOpened():
            raise InputError(f"camera {number}: cannot be opened; plug it in, close other programs that use it")
        while (now := time.monotonic()) - start < seconds:
            good, picture = camera.read()
            if good:
                start, last, shown = (start if shown else now), now, True
                yield now - start, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
            elif now - last > _PATIENCE:
                raise InputError(f"camera {number}: gives no pictures any more; check its cable and start again")
    finally:
        camera.release()
