"""A written script runs on lava-nc alone and gives the spikes of the program."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from backends.graphs import conv_graph, many_channels, oracle, random_graph, random_inputs
from backends.random_programs import random_group, random_program, random_weights
from esl_neuro.backends.lava_script import write_lava_script
from esl_neuro.compiler.program import INPUT, Connection, Program
from esl_neuro.errors import BadInput


def run_script(path, *arguments):
    """Run a script where nothing of this project can be imported, as a user would."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, path.name, *map(str, arguments)]
    return subprocess.run(
        command, cwd=path.parent, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def chain(rng):
    return random_program(rng, depth=3, steps=7)


def many_integers(rng):
    names = ["1st layer", "class"]
    groups = tuple(random_group(rng, name, size, 900) for name, size in zip(names, (60, 10), strict=True))
    connections = (
        Connection(INPUT, names[0], random_weights(rng, 60, 50, 0.5), 0, 3000),
        Connection(names[0], names[1], random_weights(rng, 10, 60, 0.8), 1, 600),
    )
    return Program("loihi2", 50, 8, 1e-3, connections, groups)


def graph_with_loops(rng):
    """A bias that speaks too early must be silent, samples must not meet, the potential is read."""
    return replace(random_graph(rng, 5, input_bits=3), readout="potential")


def convolutions(rng):
    return conv_graph(rng, 4, weight_exp=1)


def shifted_convolutions(rng):
    return conv_graph(rng, 4, weight_exp=-2)


def subtractions(rng):
    """Chains run in a stream, with both resets side by side."""
    program = chain(rng)
    first, second, third = program.groups
    return replace(program, groups=(with_subtraction(first), second, with_subtraction(third)))


def subtractions_in_loops(rng):
    program = graph_with_loops(rng)
    return replace(program, groups=tuple(map(with_subtraction, program.groups)))


def with_subtraction(group):
    return replace(group, reset_by=group.vth << 6)


KINDS = [
    chain,
    many_integers,
    graph_with_loops,
    convolutions,
    shifted_convolutions,
    many_channels,
    subtractions,
    subtractions_in_loops,
]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.lava, id=kind.__name__) for kind in KINDS])
def test_spikes_are_those_of_the_program(tmp_path, kind):
    rng = np.random.default_rng(7)
    program = kind(rng)
    written = write_lava_script(program, tmp_path / "network.py")
    inputs = random_inputs(rng, program, samples=3)
    np.savez(tmp_path / "inputs.npz", input=inputs)
    done = run_script(written[0], "inputs.npz", "--out", "output.npz")
    assert done.returncode == 0, done.stderr
    expected = oracle(program, inputs)
    assert expected.output_spikes.any()
    result = np.load(tmp_path / "output.npz")
    assert (result["output"] == expected.output_spikes).all()
    assert result["classes"].tolist() == expected.predictions().tolist()
    for sample, (label, fired) in enumerate(zip(expected.predictions(), expected.output_spikes, strict=True)):
        line = done.stdout.splitlines()[sample]
        assert line.startswith(f"sample {sample}: class {label}, scores [")
        assert line.endswith(f" {fired.sum()} output spikes")


@pytest.mark.lava
def test_without_input_it_runs_random_spikes_and_a_wrong_input_is_one_line(tmp_path):
    rng = np.random.default_rng(1)
    program = many_integers(rng)
    script, _ = write_lava_script(program, tmp_path / "network.py")
    assert run_script(script).stdout.startswith("sample 0: class ")
    np.savez(tmp_path / "wrong.npz", input=np.zeros((1, 8, 49)))
    done = run_script(script, "wrong.npz")
    assert done.returncode == 1
    assert done.stderr == "the input has shape (1, 8, 49); expected (samples, 8, 50)\n"


def test_small_networks_are_one_file_and_large_ones_two(tmp_path):
    rng = np.random.default_rng(2)
    small = write_lava_script(random_program(rng, depth=1, widest=5), tmp_path / "small.py")
    assert [path.name for path in small] == ["small.py"]
    large = write_lava_script(many_integers(rng), tmp_path / "large.py")
    assert [path.name for path in large] == ["large.py", "large.npz"]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_a_script_imports_only_lava_and_what_comes_with_it(tmp_path, kind):
    path, *_ = write_lava_script(kind(np.random.default_rng(3)), tmp_path / "network.py")
    text = path.read_text()
    roots = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.split(".")[0])
    assert roots - sys.stdlib_module_names == {"lava", "numpy", "scipy"}
    assert "--ignore-requires-python" in text


def chain_of(names):
    """Groups of two neurons with these names, one after the other."""
    rng, groups, connections, before = np.random.default_rng(4), [], [], INPUT
    for name in names:
        groups.append(random_group(rng, name, 2))
        connections.append(Connection(before, name, random_weights(rng, 2, 2, 1.0), 0, 4))
        before = name
    return Program("loihi2", 2, 3, 1e-3, tuple(connections), tuple(groups))


def test_names_of_groups_become_names_of_python(tmp_path):
    program = chain_of(["1st", "a.b", "a b", "class", "source"])
    path, *_ = write_lava_script(program, tmp_path / "network.py")
    text = path.read_text()
    ast.parse(text)
    for name in ("group_1st", "a_b", "a_b_2", "group_class", "source_2"):
        assert f"\n    {name} = LIFReset(" in text


def test_a_path_that_lava_cannot_hold_back_is_refused(tmp_path):
    rng = np.random.default_rng(5)
    groups = tuple(random_group(rng, name, 1) for name in ("first", "last"))
    ends = [(INPUT, "first", 0), ("first", "last", 0), (INPUT, "last", 63)]
    connections = tuple(Connection(s, t, sp.csr_matrix([[2]]), 0, 1, delay=delay) for s, t, delay in ends)
    program = Program("loihi2", 1, 70, 1e-3, connections, groups)
    with pytest.raises(BadInput, match=r"input -> last: spikes are delayed by 64 steps.*--backend lava"):
        write_lava_script(program, tmp_path / "network.py")


HOSTILE = (
    "a\nraise SystemExit('code')",
    'a"""\nraise SystemExit("code")\n"""',
    "a'''",
    "a\\",
    "a\x1b[2J\r\u2028b",
    "np",
    "print",
    "STEPS",
    "Conv",
    "x\u00b2",
    "\ufb01",
    "fi",
    "{title}",
    "input_to",
    "source_to_np_2",
    "",
)


def test_no_name_becomes_code(tmp_path):
    """Names are words of Python that nothing else has, and comments show what they were in ASCII."""
    program = chain_of(HOSTILE)
    path, *_ = write_lava_script(program, tmp_path / "a'\n\"b.py")
    text = path.read_text()
    assert text.isascii()
    assert not set("\x1b\r") & set(text)
    tree = ast.parse(text)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    build = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "build")
    assigned = [node.targets[0].id for node in build.body if isinstance(node, ast.Assign)]
    assert len(assigned) == len(set(assigned)) == 1 + 2 * len(HOSTILE)  # the source, groups, connections
    assert not set(assigned) & {"np", "print", "STEPS", "Conv", "sys"}


def test_a_group_named_like_a_connection_stays_itself(tmp_path):
    rng, names = np.random.default_rng(4), ["a", "b", "source_to_a", "a_to_b"]
    groups = tuple(random_group(rng, name, 2) for name in names)
    sources = [INPUT, *names[:-1]]
    connections = tuple(
        Connection(source, name, random_weights(rng, 2, 2, 1.0), 0, 4)
        for source, name in zip(sources, names, strict=True)
    )
    text = write_lava_script(Program("loihi2", 2, 3, 1e-3, connections, groups), tmp_path / "s.py")[0].read_text()
    assert "\n    source_to_a = LIF" in text
    assert "\n    source_to_a_2 = Sparse(" in text
