"""Download the files of a data set over TLS, each checked against its known hash, and unpack archives safely."""

from __future__ import annotations

import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

SHA256 = re.compile(r"[0-9a-f]{64}")
ARCHIVE = ".tar.gz"


@dataclass(frozen=True)
class Download:
    """Files below one address, as a data set's :class:`~esl_neuro.data.folders.Layout` fetches them.

    Attributes
    ----------
    address : str
        Address of the folder of the files, ``https://`` with a final slash. A server that sends on to another address
        is not followed.
    files : mapping of str to str
        SHA-256 sum of each file, in hexadecimal digits. An archive is unpacked beside itself.
    folder : str
        Subfolder of the folder of all data sets that receives the files; none by default.
    """

    address: str
    files: Mapping[str, str]
    folder: str = ""

    def __post_init__(self) -> None:
        # Only the machine itself may be asked without TLS.
        if not self.address.startswith(("https://", "http://localhost:")):
            raise ValueError(f"address '{self.address}' is not https://")
        for name, digits in self.files.items():
            if not SHA256.fullmatch(digits):
                raise ValueError(f"the hash of {name} is '{digits}', not the 64 digits of SHA-256")

    def __call__(self, folder: Path) -> None:
        """Download what is missing.

        Raises
        ------
        OSError
            If an address cannot be reached, or the folder cannot be written.
        ValueError
            If a file has another hash, in which case it is not kept, or an archive contains anything but files below
            its own folder.
        """
        import pooch

        home = folder / self.folder
        direct = pooch.HTTPDownloader(allow_redirects=False)
        for name, digits in self.files.items():
            path = pooch.retrieve(self.address + name, f"sha256:{digits}", fname=name, path=home, downloader=direct)
            if name.endswith(ARCHIVE):
                unpack(Path(path), home)


def unpack(archive: Path, home: Path) -> None:
    """Unpack an archive into a folder; each file appears in one piece.

    Raises
    ------
    ValueError
        If the archive is damaged, or contains a link, a device or a name that leads out of the folder; then nothing is
        unpacked.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar, TemporaryDirectory(dir=home) as beside:
            members = [_checked(member, archive) for member in tar]
            tar.extractall(beside, members=members, **_FILTER)  # type: ignore[arg-type]
            for member in members:
                if member.isfile():
                    (home / member.name).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(beside) / member.name, home / member.name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: not a readable archive: {error}") from error


# Python has the filter since 3.10.12, 3.11.4 and 3.12; names and kinds are checked here in any case.
_FILTER = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _checked(member: tarfile.TarInfo, archive: Path) -> tarfile.TarInfo:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise ValueError(f"{archive}: contains {member.name!a}, which leads out of its folder")
    if not (member.isfile() or member.isdir()):
        raise ValueError(f"{archive}: contains {member.name!a}, which is neither a file nor a folder")
    return member
