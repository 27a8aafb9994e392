"""The memory that this process takes, and took at most, as Linux tells it; None elsewhere. No torch here."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int | None:
    """Return the memory of this process now."""
    return _status("VmRSS")


def reset_peak() -> bool:
    """Forget how much memory this process took so far; return whether the system can do that."""
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")
        return True
    return False


def peak_bytes() -> int | None:
    """Return the largest memory of this process since :func:`reset_peak`."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024
    return None
