#!/usr/bin/env bash
# What we use of the entry point of Docker's PostgreSQL image, by its documentation: on the first start it makes
# the data folder ($PGDATA, with POSTGRES_PASSWORD and POSTGRES_INITDB_ARGS) and runs the .sql files of
# /docker-entrypoint-initdb.d on a server that listens on its socket alone; then the server starts.
set -euo pipefail

socket=/run/postgresql
server() { pg_ctl --pgdata="$PGDATA" --wait --options="-c listen_addresses='' -c unix_socket_directories=$socket" "$@"; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?is needed to make the data folder}"
  mkdir -p "$PGDATA" && chmod 700 "$PGDATA"
  # shellcheck disable=SC2086 # several arguments
  initdb --pgdata="$PGDATA" --username=postgres --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") ${POSTGRES_INITDB_ARGS:-}
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  server start
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [ -e "$script" ] || continue
    psql --set=ON_ERROR_STOP=1 --no-psqlrc --no-password --host="$socket" --username=postgres --dbname=postgres --file="$script"
  done
  server --mode=fast stop
fi
unset POSTGRES_PASSWORD
exec "$@" -c listen_addresses='*' -c unix_socket_directories="$socket"
