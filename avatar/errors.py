"""Errors that a user caused and can mend. The command line prints them as one line and exits with 2."""


class InputError(Exception):
    """What was given cannot be used: names the thing, what it was, what was wanted and what to do."""
