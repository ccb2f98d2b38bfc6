"""What every test needs."""

import os

# Ray reads this once, when it is imported; collecting the doctests imports it.
os.environ["RAY_AUTH_MODE"] = "token"
