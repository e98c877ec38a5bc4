"""The page for the projector."""

PAGE_STYLE = """<style>
#jp-top-panel, #jp-menu-panel, #jp-bottom-panel, #jp-title-panel-title, .jp-SideBar,
.jp-NotebookPanel-toolbar, .jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .jp-Placeholder,
.jp-cell-toolbar, .jp-Notebook-footer, .jp-CodeCell .jp-Cell-inputWrapper, .jp-InternalAnchorLink
  { display: none !important; }
.lm-Widget { contain: none !important; }
.jp-NotebookPanel, .jp-NotebookPanel .jp-WindowedPanel-outer
  { position: fixed !important; inset: 0 !important; width: 100vw !important;
    height: 100vh !important; z-index: 100; }
.jp-Notebook .jp-Cell { border: none !important; box-shadow: none !important; }
.widget-image { max-width: none; }
</style>"""
"""Hides JupyterLab's menus, toolbar and prompts, and gives the whole window to the page."""


def projector_style() -> None:
    """Hides everything of JupyterLab around a page. For `playground.ipynb`, which
    `make playground` opens."""
    from IPython.display import HTML, display

    display(HTML(PAGE_STYLE))
