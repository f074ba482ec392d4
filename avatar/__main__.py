"""`python -m avatar` is the command `avatar`."""

from avatar.cli import main

main()
