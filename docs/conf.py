"""How Sphinx makes the site of these pages: `make docs`."""

import os
from importlib.metadata import version as version_of

project = "gradsmith"
author = "The gradsmith authors"
release = version = version_of("gradsmith")

extensions = [
    "myst_parser",  # the pages are Markdown, so that they read well in the repository too
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",  # a page for every public name
    "sphinx.ext.napoleon",  # docstrings in Google's style
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",  # runs the optimizers of examples/gallery, draws, and shows them
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "ignore_pattern": "small_race",
    "within_subsection_order": "ExampleTitleSortKey",
    "thumbnail_size": (675, 240),  # the form of the figures
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 10_000,  # the times of a busy machine say nothing
    "write_computation_times": False,
    "abort_on_example_error": True,
}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # single backquotes in docstrings are code
napoleon_use_ivar = True
napoleon_use_rtype = False
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "gradsmith"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"start": [], "howto": [], "catalogue": []}  # nothing stands below them
html_theme_options = {
    "navigation_with_keys": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_align": "left",
}
if shown := os.environ.get("DOCS_VERSION"):  # one of several sites; see versions.py
    html_theme_options |= {
        "navbar_start": ["navbar-logo", "version-switcher"],
        "switcher": {
            "json_url": "https://gradsmith.github.io/gradsmith/versions.json",
            "version_match": shown,
        },
        "check_switcher": False,  # it is published together with the pages
    }


def tables_as_lists(app, what, name, obj, options, lines):
    """Docstrings have tables in Markdown, which reStructuredText does not know."""
    table: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            table.append(line)
        elif table:
            start = lines.index(table[0])
            rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
            listed = [".. list-table::", "   :header-rows: 1", ""]
            for row in (rows[0], *rows[2:]):
                listed += [f"   {'  -' if i else '* -'} {cell}" for i, cell in enumerate(row)]
            lines[start : start + len(table)] = [*listed, ""]
            table = []


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", tables_as_lists)
