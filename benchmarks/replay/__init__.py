"""Searches replayed against a table of trained networks, to measure how well they choose.

The table (``table``) holds networks that the product trained. A worker (``worker``) answers a
search's assignments from it, so that a whole search takes seconds. Without Ray (``search``) it takes one, and
hundreds of them say how good the choice is on average (``quality``).
"""
