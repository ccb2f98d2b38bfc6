"""A search as it runs: on a terminal or in a notebook; ``text`` keeps others' text from steering either."""
