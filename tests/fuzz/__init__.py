"""Files made at random, from a seed: each is understood, or refused in a sentence within seconds.

A few hundred of each kind run in CI, many more at night. A failure names its number: the same number makes
the same file again.
"""
