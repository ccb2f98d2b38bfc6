"""What every test needs."""

import os

# Ray reads this once, when it is imported; collecting the doctests imports it.
os.environ["RAY_AUTH_MODE"] = "token"

# MLflow's servers would start seven processes each for jobs that no test has.
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
