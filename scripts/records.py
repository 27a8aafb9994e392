"""The records of the published figures: where they are, and the tables that documents make of them."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from esl_neuro.report.reproduction_text import reproduction_markdown
from esl_neuro.resources import read_toml

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "results"
WORK = ROOT / ".results"
INDEX: dict[str, dict[str, Any]] = read_toml(RECORDS / "records.toml")["records"]
BENCHMARKS = str(ROOT / "benchmarks")
if BENCHMARKS not in sys.path:
    sys.path.insert(0, BENCHMARKS)  # each makes the tables of its own record
TABLE = re.compile(r"(<!-- record: ([\w-]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)


def read_record(name: str) -> dict[str, Any]:
    """Return a record, of a benchmark or of commands."""
    path = ROOT / INDEX[name]["file"] if "file" in INDEX[name] else RECORDS / f"{name}.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def benchmark(name: str) -> Any:
    """Return the module of the benchmark that writes a record."""
    return importlib.import_module(Path(INDEX[name]["file"]).stem)


def tables_of(name: str) -> str:
    """Return the tables of a record."""
    record = read_record(name)
    if "file" in INDEX[name]:
        return f"{benchmark(name).tables(record)}\n\n{conditions(record['machine'])}"
    return "\n\n".join(reproduction_markdown(output["json"]) for output in record["outputs"])


def conditions(machine: dict[str, Any]) -> str:
    """Say where and when a benchmark ran."""
    others = machine.get("used_by_others")
    said = "" if others is None else f"; other programs used {100 * others:.0f} % of the processors meanwhile"
    torch = f", torch {machine['torch']}" if "torch" in machine else ""
    return (
        f"Measured {machine['measured']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:.1f} GB, Python {machine['python']}{torch}{said}."
    )


def with_tables(text: str) -> str:
    """Return a document with the tables of each record between its marks."""
    return TABLE.sub(lambda found: f"{found[1]}{tables_of(found[2])}\n{found[3]}", text)


def write_tables() -> None:
    """Write the tables of all documents anew."""
    for document in sorted(ROOT.glob("docs/*.md")):
        text = document.read_text(encoding="utf-8")
        document.write_text(with_tables(text), encoding="utf-8")
