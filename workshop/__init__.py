"""What an instructor needs: pages made of the lessons, a classroom's server, and its rehearsal."""

import sys

# jsonschema, which Jupyter uses to check notebooks, would make a parser of web addresses with this
# package, if it is there: two or three seconds of every start, for something that no notebook has.
sys.modules.setdefault("rfc3987_syntax", None)
