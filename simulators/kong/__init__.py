"""Kong's Admin API, as far as consumers, their keys and groups go."""

from .simulator import KongSimulator as KongSimulator
