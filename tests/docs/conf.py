"""Settings of Sphinx for ``make docs``; `docs.sources` makes what it reads."""

import re

import pyint8dot

project = "pyint8dot"
author = project
version = release = pyint8dot.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/*.S"]
# A name in single backticks is a Python object where there is one of that name, else code.
default_role = "py:obj"
default_domain = "py"
highlight_language = "none"
myst_heading_anchors = 3
napoleon_google_docstring = False
# Types are words here, not names to be linked.
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# numpydoc's sections have the types in words.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["page.css"]
html_title = f"pyint8dot {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def escape_dimensions(app, what, name, obj, options, lines: list[str]) -> None:
    """The star of a shape such as (batch, channels, *spatial) is none of emphasis."""
    lines[:] = [re.sub(r"(?<=, )\*(?=[a-z][a-z ]*\))", r"\\*", line) for line in lines]


def setup(app) -> None:
    app.connect("autodoc-process-docstring", escape_dimensions)
