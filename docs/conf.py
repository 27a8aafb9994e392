"""How Sphinx builds this documentation: `make docs`. No network is used."""

import importlib
from importlib.metadata import version as installed_version
from typing import Any

import esl_neuro

project = "esl-neuro"
version = release = installed_version("esl-neuro")

extensions = [
    "myst_nb",  # Markdown, and the notebooks, which are run
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # numpydoc docstrings
    "sphinx_copybutton",
]
exclude_patterns = ["results/*"]

# A notebook that fails, also by an assertion, fails the build. Each runs in an empty folder.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True

myst_heading_anchors = 3  # links to headings are checked

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give types, with shapes and units
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False  # types are prose ("array, shape (samples, steps)"), no references
napoleon_use_rtype = False

html_theme = "furo"
html_title = "esl-neuro"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def resolve(app: Any, _env: Any, node: Any, content: Any) -> Any:
    """Link the full path of a public name to its entry; show another name of the package, if it exists, as text.

    A reference to a name that does not exist stays a warning, and so an error.
    """
    path = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    if not path.startswith("esl_neuro"):
        return content  # other packages; their pages are not asked for, because that needs the network
    name = path.rpartition(".")[2]
    if name in esl_neuro.__all__ and path != f"esl_neuro.{name}" and found(path) is getattr(esl_neuro, name):
        domain = app.env.get_domain("py")
        return domain.resolve_xref(app.env, node["refdoc"], app.builder, "obj", f"esl_neuro.{name}", node, content)
    return content if found(path) is not None else None


def found(path: str) -> Any:
    """Return the module, or the object of a module or a class, with this path; None if there is none."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part, None)
        return thing
    return None


def setup(app: Any) -> None:
    """Register the resolver."""
    app.connect("missing-reference", resolve)
