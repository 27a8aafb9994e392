"""The version, which runs, exports and NIR files carry."""

__version__ = "0.1.0"
