"""Tests. Waiting threads sleep, as in the command line: two test runs side by side must not slow each other."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
