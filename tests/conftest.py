"""What every test needs."""

import os

from hypothesis import HealthCheck, settings

# Ray reads this once, when it is imported; collecting the doctests imports it.
os.environ["RAY_AUTH_MODE"] = "token"

# MLflow's servers would start seven processes each for jobs that no test has.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

# How long a draw takes says how busy the machine is, not whether a test is right.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
