"""What an instructor needs: pages made of the lessons, a classroom's server, and its rehearsal."""
