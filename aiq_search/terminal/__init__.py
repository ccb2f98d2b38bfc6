"""On a terminal: ``view`` shows a search as it runs, ``text`` keeps others' text from steering it."""
