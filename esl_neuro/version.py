"""The version, which runs, exports and NIR files carry."""

__version__ = "0.2.0"
