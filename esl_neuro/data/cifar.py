"""Read the batch files of CIFAR-10 and CIFAR-100 (python version).

They are pickles, which can run any code when they are loaded. So this reader only builds dicts, lists, numbers, strings
and numpy arrays, and rejects everything else.

Source: https://www.cs.toronto.edu/~kriz/cifar.html ("Dataset layout / Python").
"""

from __future__ import annotations

import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esl_neuro.errors import BadInput

SHAPE = (3, 32, 32)

# The function that rebuilds arrays differs between numpy versions; an array refers to the right one.
_RECONSTRUCT = np.empty(0).__reduce__()[0]  # type: ignore[no-untyped-call, unused-ignore]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no CIFAR batch needs")
        return _ALLOWED[module, name]


def read_batch(path: Path, labels_key: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one batch file.

    Parameters
    ----------
    path : Path
        ``data_batch_1`` .. ``5``, ``test_batch`` (CIFAR-10), ``train`` or ``test`` (CIFAR-100).
    labels_key : str
        ``"labels"`` (CIFAR-10) or ``"fine_labels"`` (CIFAR-100).

    Returns
    -------
    images : uint8 array, shape (samples, 3, 32, 32)
        Red, green and blue planes.
    labels : int64 array, shape (samples,)

    Raises
    ------
    BadInput
        If the file is not such a batch.
    """
    try:
        with path.open("rb") as stream:
            # numpy requires latin1 for arrays in Python 2 pickles.
            batch = _ArrayUnpickler(stream, encoding="latin1").load()
        images, labels = np.asarray(batch["data"]), np.asarray(batch[labels_key])
    except Exception as error:  # a damaged pickle can raise anything
        raise BadInput(f"{path}: not a batch of CIFAR: {error!r}") from error
    samples, pixels = len(labels) if labels.ndim == 1 else -1, int(np.prod(SHAPE))
    if images.dtype != np.uint8 or images.shape != (samples, pixels) or labels.dtype.kind not in "iu":
        raise BadInput(
            f"{path}: data are {images.dtype} {images.shape} with {labels.dtype} labels {labels.shape}, "
            f"expected uint8 (samples, {pixels}) with integer labels (samples,)"
        )
    return images.reshape(-1, *SHAPE), labels.astype(np.int64)
