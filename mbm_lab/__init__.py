"""MBM Lab: build a multimodal model from first principles.

Every lesson of the course has a module here with the lesson's name: lesson `04_fusion.ipynb`
goes with `mbm_lab/fusion.py`. The lessons import the modules by name:

    from mbm_lab import cnn, fusion, plots
"""

__version__ = "0.1.0"
