-- MLflow's databases (runs, and who may see them) and Optuna's, each with a user of its own that can
-- reach no other. Run once, by the superuser, when the data folder is made. The passwords come from the
-- environment, so that they stand neither here nor in a process list.
\set ON_ERROR_STOP on
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv optuna_password OPTUNA_DB_PASSWORD

-- Role and password are not logged, should statements be.
SET log_statement = 'none';
SET log_min_duration_statement = -1;

CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password' CONNECTION LIMIT 60;
CREATE ROLE optuna LOGIN PASSWORD :'optuna_password' CONNECTION LIMIT 30;

CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE DATABASE optuna OWNER optuna;

REVOKE ALL ON DATABASE mlflow, mlflow_auth, optuna, postgres, template1 FROM PUBLIC;
