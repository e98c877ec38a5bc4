"""MBM Lab: build a multimodal model from first principles.

Every lesson of the course has a module here with the lesson's name: lesson `04_fusion.ipynb`
goes with `mbm_lab/fusion.py`. The lessons import the modules by name:

    from mbm_lab import cnn, fusion, plots
"""

import sys

# jsonschema, which Jupyter uses to check notebooks, would make a parser of web addresses with this
# package, if it is there: two or three seconds of every start, for something that no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)

__version__ = "0.1.0"
