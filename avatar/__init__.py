"""A short video of a person goes in; a small file comes out that talks, looks around and is seen from any side."""

__version__ = "0.1.0"
