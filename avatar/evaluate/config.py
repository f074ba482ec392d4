"""What an evaluation costs and shows."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Defaults score a minute of 512x512 video in about half a minute on two cores."""

    structure_frames: int = 120
    """At most this many held-out frames, evenly spaced, are scored with SSIM."""
    flip_frames: int = 8
    """At most this many, evenly spaced, are scored with FLIP (half a second each)."""
    lpips_frames: int = 30
    """At most this many, evenly spaced, are scored with LPIPS, where its weights are on the machine."""
    face_frames: int = 360
    """At most this many, evenly spaced, are given to the landmark detector."""
    strips: int = 6
    """Evenly spaced frames that the page shows."""
    worst: int = 4
    """Frames with the lowest `psnr_frame` of `reenacted` that the page shows."""
    panel_px: int = 320
    """Longest side of a picture on the page."""
