"""What an instructor needs: pages made of the lessons, a classroom's server, and its rehearsal."""

import mbm_lab  # noqa: F401  (first: it leaves out what would make every start slow)
