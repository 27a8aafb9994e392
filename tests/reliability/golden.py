"""What a small export says, in the words of its files: the measure of whether a format has changed.

``python tests/reliability/golden.py`` compares with the stored content and names what differs; with ``--write`` it
stores the content anew, of a format whose version was raised. The network is made by arithmetic on small integers, so
it depends on no random numbers, no training and no torch.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from esl_neuro.backends import golden as traces
from esl_neuro.backends.integer import count_integer
from esl_neuro.backends.netx import write_netx
from esl_neuro.compiler import program as programs
from esl_neuro.energy import counts, report
from esl_neuro.energy.report import energy_report
from esl_neuro.nirgraph import sparse_nodes
from esl_neuro.nirgraph.files import write_nir
from esl_neuro.pipeline import export_folder
from esl_neuro.pipeline.compilation import compile
from esl_neuro.pipeline.compiled_network import CompiledNetwork, load_compiled
from reliability.trees import FORMATS

STORED = Path(__file__).parent / "golden"
CHIP = STORED / "chip.toml"  # a copy, so that new constants of a chip change no format
SHOWN = 32  # values of an array that are stored one by one; of a larger one, a hash
DIGITS = 9  # of floating point numbers: the last ones depend on the processor
WORDS = ("warnings", "notes", "message", "prices")  # for people; better wording changes no format

# Where the version of each format stands; NIR and .net have versions of their own.
SCHEMAS = {
    "program": programs.SCHEMA_SINCE_0_2,
    "export": export_folder.SCHEMA,
    "trace": traces.SCHEMA,
    "counts": counts.SCHEMA,
    "energy": report.SCHEMA,
    "nir": None,
    "sparse_nir": sparse_nodes.SCHEMA,
    "netx": None,
}


def network(bias: float = 0.125) -> nir.NIRGraph:
    """A chain of two layers of neurons, one of them with a synaptic filter."""

    def numbers(*shape: int) -> Any:
        return ((np.arange(np.prod(shape)) * 7919) % 23 - 11).reshape(shape) / 16

    def full(value: float, size: int) -> Any:
        return np.full(size, float(value))

    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        "fc1": nir.Affine(numbers(5, 6), numbers(5) * bias),
        "lif": nir.LIF(
            tau=full(2e-3, 5), r=full(2, 5), v_leak=full(0, 5), v_threshold=full(0.75, 5), v_reset=full(0, 5)
        ),
        "fc2": nir.Linear(numbers(3, 5)),
        "cuba": nir.CubaLIF(
            *(full(value, 3) for value in (4e-3, 2e-3, 2, 0, 0.5)), v_reset=full(0, 3), w_in=full(4, 3)
        ),
        "output": nir.Output({"output": np.array([3])}),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(zip(names, names[1:])), {"dt_s": 1e-3, "steps": 8})  # noqa: B905, RUF007


def sparse_network() -> nir.NIRGraph:
    """The same chain, by its connections: the first layer without a matrix, the second with a note beside it."""
    graph = network()
    first, second = graph.nodes["fc1"], graph.nodes["fc2"]
    columns, starts = np.array([1, 4, 0, 3, 5, 2]), np.array([0, 2, 2, 5, 6, 6])
    values = np.arange(-3.0, 3.0).astype(np.float32) / 4  # one connection of weight zero
    graph.nodes["fc1"] = sparse_nodes.SparseAffine(
        values, columns.astype(np.int32), starts, np.array([5, 6]), first.bias.astype(np.float32)
    )
    columns = np.array([0, 1, 2, 3, 4] * 3, np.int32)
    graph.nodes["fc2"] = nir.Linear(second.weight, metadata=sparse_nodes.note_of(columns, np.array([0, 5, 10, 15])))
    return graph


def inputs() -> Any:
    """Two samples of eight steps and six lines."""
    return ((np.arange(96) * 5) % 7 < 3).reshape(2, 8, 6).astype(np.uint8)


def export(folder: Path) -> CompiledNetwork:
    """Compile the network and write everything an export has; return it."""
    compiled = compile(network(), "loihi2", accept_loss=True)
    compiled.save(folder)
    without_bias = compile(network(0.0), "loihi2", accept_loss=True)  # .net files hold few biases
    write_netx(without_bias.program, folder / "network.net")
    return compiled


def contents(folder: Path) -> dict[str, Any]:
    """Return what an export in a folder says, by format, and what its counts and its energy say."""
    program = load_compiled(folder).program
    trace = count_integer(program, inputs(), threads=1)
    counted = counts.count(program, trace)
    priced = energy_report(program, trace, (str(CHIP),), 1e-3)
    read = {path.name: FORMATS[path.suffix].decode(path.read_bytes()) for path in folder.iterdir()}
    document = read["export.json"]
    write_nir(folder / "sparse.nir", sparse_network())
    sparse = FORMATS[".nir"].decode((folder / "sparse.nir").read_bytes())
    return {
        "program": {"structure": read["program.json"], "integers": read["program.safetensors"]},
        "export": {key: value for key, value in document.items() if key != "environment"},
        "trace": read["golden.h5"],
        "nir": {key: value for key, value in read["model.nir"].items() if key != "version"},  # of the nir package
        "sparse_nir": {key: value for key, value in sparse.items() if key != "version"},
        "netx": read["network.net"],
        "counts": counted.to_dict(),
        "energy": priced.to_dict(),
    }


def canonical(value: Any) -> Any:
    """Return plain data for JSON, in which equal content gives equal text."""
    if isinstance(value, dict):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str) if key not in WORDS}
    if isinstance(value, (list, tuple)):
        return [canonical(each) for each in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "OSU":
        return canonical(value.tolist())
    if isinstance(value, np.ndarray):
        return canonical_array(value)
    if isinstance(value, np.generic):
        return canonical(value.item())
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def canonical_array(array: Any) -> Any:
    """Return type, shape, and values or their hash."""
    flat = np.round(array.ravel(), DIGITS) if array.dtype.kind == "f" else array.ravel()
    values = canonical(flat.tolist())
    if len(values) > SHOWN:
        values = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    return {"type": array.dtype.str, "shape": list(array.shape), "values": values}


def made() -> dict[str, Any]:
    """Write the export, and return its content by format."""
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder))
        return {name: canonical(content) for name, content in contents(Path(folder)).items()}


def stored(name: str) -> Any:
    """Return the stored version and content of a format."""
    return json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Yield the places where two contents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if (key in old) != (key in new):
                yield f"{place}/{key} is {'new' if key in new else 'gone'}"
            else:
                yield from differences(old[key], new[key], f"{place}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{place}/{number}")
    elif old != new:
        yield f"{place} is {json.dumps(new)[:60]}, was {json.dumps(old)[:60]}"


def verdict(name: str, content: Any) -> str:
    """Say what is wrong with a format; nothing if its content is the stored one."""
    kept = stored(name)
    changed = list(differences(kept["content"], content))
    anew = "python tests/reliability/golden.py --write"
    if kept["schema"] != SCHEMAS[name]:
        return f"{name}: the version is {SCHEMAS[name]}, stored is {kept['schema']}; store it anew: {anew}"
    if not changed:
        return ""
    some = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
    return (
        f"{name}: files say something else than before, in {len(changed)} places: {some}. Readers of earlier files "
        f"would be misled: raise the version of the format, read both, then {anew}"
    )


def pack(folder: Path) -> bytes:
    """Return the files of a folder in one archive with no times in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write(contents: dict[str, Any]) -> None:
    """Store the content of all formats, and one export of each version of programs."""
    for name, content in contents.items():
        text = json.dumps({"schema": SCHEMAS[name], "content": content}, indent=1) + "\n"
        (STORED / f"{name}.json").write_text(text, encoding="utf-8")
    kept = STORED / f"sparse-{SCHEMAS['sparse_nir']}.nir"
    if not kept.exists():
        write_nir(kept, sparse_network())
    archive = STORED / f"export-{SCHEMAS['export']}-program-{SCHEMAS['program']}.zip"
    if not archive.exists():  # what an earlier version wrote stays as it is
        with tempfile.TemporaryDirectory() as folder:
            export(Path(folder))
            archive.write_bytes(pack(Path(folder)))


def main() -> int:
    """Compare, or store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="store the content anew")
    content = made()
    if parser.parse_args().write:
        write(content)
    findings = [finding for name in content if (finding := verdict(name, content[name]))]
    print("\n".join(findings) or "the files say what is stored")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
