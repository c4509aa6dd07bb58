"""The one error of a race."""


class RaceError(ValueError):
    """A race cannot be run as asked; the message says what, where, and what to do instead."""
