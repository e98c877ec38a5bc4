"""Lessons in real JupyterLab, driven by a real browser."""
