"""Download the files of a data set, each checked against its known hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """Files below one address, as a data set's :class:`~esl_neuro.data.folders.Layout` fetches them.

    Attributes
    ----------
    address : str
        Address of the folder of the files, with a final slash.
    files : mapping of str to str
        MD5 sum of each file, as published with the data set. An archive is unpacked beside itself.
    folder : str
        Subfolder of the folder of all data sets that receives the files; none by default.
    """

    address: str
    files: Mapping[str, str]
    folder: str = ""

    def __call__(self, folder: Path) -> None:
        """Download what is missing.

        Raises
        ------
        OSError
            If an address cannot be reached, or the folder cannot be written.
        ValueError
            If a file has another hash, in which case it is not kept.
        """
        import pooch

        home = folder / self.folder
        for name, md5 in self.files.items():
            unpack = pooch.Untar(extract_dir=".") if name.endswith(".tar.gz") else None
            pooch.retrieve(self.address + name, f"md5:{md5}", fname=name, path=home, processor=unpack)
