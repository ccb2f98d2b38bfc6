#!/usr/bin/env bash
# Renews what the image is made of: packages by version and hash, base images by digest.
#   bash deploy/pin.sh [TORCH_BACKEND...]     by default cpu and cu130, the builds that deploy/README.md names
# Packages need uv (pip install uv) and a package index; PyTorch's builds need PyTorch's own index, and digests
# need Docker and a registry. If one of the last two cannot be reached, its old pins stay, and the script names
# them and exits with 1.
set -euo pipefail
cd "$(dirname "$0")"
export LC_ALL=C
python=$(sed -n 's/^ARG PYTHON_IMAGE=python:\(3\.[0-9]*\).*/\1/p' Dockerfile)
missing=()

compile() { # requirements from stdin or a file, with the hashes of every file of each version
  uv pip compile --quiet --no-header --no-annotate --generate-hashes --python-version "$python" "$@"
}

write() { # FILE HEADER < pins; an index's address would show where this was run
  local text
  text=$(cat)
  if [ -z "$text" ] || grep -q '://' <<<"$text"; then
    echo "pin.sh: $1 would be empty or name an index; it stays as it was" >&2
    return 1
  fi
  printf '# %s\n# Written by deploy/pin.sh.\n%s\n' "$2" "$text" >"$1"
}

# Packages that differ between PyTorch's builds are kept apart.
of_torch='^((torch|torchvision|triton)==|(nvidia|cuda)-)'
all=$(compile ../pyproject.toml --extra cluster)
awk -v torch="$of_torch" '/^[^ ]/ { keep = $0 !~ torch } keep' <<<"$all" |
  write requirements.txt "Every package of the image but PyTorch's."
awk -v torch="$of_torch" '/^[^ ]/ { keep = $0 ~ torch } keep' <<<"$all" |
  write torch-pypi.txt "PyTorch as PyPI has it: TORCH_BACKEND set empty."
sed -n 's/^requires = \[\(.*\)\]$/\1/p' ../pyproject.toml | tr -d '" ' | tr ',' '\n' | compile - | write build.txt "What builds this package."
echo uv | compile - | write uv.txt "What installs the packages."

# PyTorch's other builds, in the same versions.
versions=$(grep -oE '^(torch|torchvision)==[^ ]+' torch-pypi.txt)
[ $# -gt 0 ] || set -- cpu cu130
for name; do
  file=torch-$name.txt
  if pins=$(compile --torch-backend "$name" --no-deps - <<<"$versions" 2>/dev/null); then
    write "$file" "PyTorch from its own index: TORCH_BACKEND=$name." <<<"$pins"
    continue
  fi
  missing+=("hashes of PyTorch's build $name")
  # A version without its hash is better than an old version.
  grep -qF "$(head -n 1 <<<"$versions")" "$file" 2>/dev/null ||
    write "$file" "PyTorch from its own index: TORCH_BACKEND=$name. Its hashes are missing." <<<"$versions"
done

# Base images. A tag may move; a digest does not.
for image in "python:$(sed -n 's/^ARG PYTHON_IMAGE=python:\([^@]*\).*/\1/p' Dockerfile)" \
  "$(sed -n 's/^ *image: \(postgres:[^@]*\).*/\1/p' ../docker-compose.yml)"; do
  digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image" 2>/dev/null) || digest=
  if [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]]; then
    sed -i -E "s|${image}(@sha256:[0-9a-f]+)?|${image}@${digest}|" \
      Dockerfile ../docker-compose.yml kubernetes/postgres.yaml
  else
    missing+=("digest of $image")
  fi
done

for each in "${missing[@]}"; do
  echo "pin.sh: not renewed: $each" >&2
done
[ ${#missing[@]} = 0 ]
