"""What every module of the WaddleBot fleet shares. docs/ and CONTRIBUTING.md say how the pieces fit."""

__version__ = "0.1.0"
