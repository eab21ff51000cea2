#!/usr/bin/env bash
# Builds the service's image with buildah, without a Docker engine, and tries it: health check, device list, a plan, a
# refusal, and that it runs as nobody in particular. Leaves the image behind and nothing else.
#   docker/build_and_smoke.sh [TAG]     default: localhost/poet-planner:smoke
#   BASE_IMAGE                          the base; by default python:3.11-slim where its registry answers, else one made
#                                       here by docker/make_base.sh
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:-localhost/poet-planner:smoke}
registry_base=docker.io/library/python:3.11-slim
made_base=localhost/poet-base:bookworm

command -v buildah >/dev/null 2>&1 || {
  echo "buildah is not here: scripts/system_packages.sh --docker installs it where it may." >&2
  exit 1
}

base=${BASE_IMAGE:-}
if [ -z "$base" ]; then
  if timeout 300 buildah pull --quiet "$registry_base" >/dev/null 2>&1; then
    base=$registry_base
  else
    docker/make_base.sh "$made_base"
    base=$made_base
  fi
fi
echo "base image: $base"

work=$(mktemp -d)
container=
cleanup() {
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

before=$(buildah images --quiet "$tag" 2>/dev/null || true)

# The docker format, because OCI images have no health check.
settings=$(python3 docker/pip_settings.py "$work")
mapfile -t pip_arguments <<<"$settings"
buildah bud --isolation chroot --format docker --quiet --build-arg "BASE_IMAGE=$base" \
  "${pip_arguments[@]}" --file docker/Dockerfile --tag "$tag" . >"$work/build.log" 2>&1 || {
  tail -n 40 "$work/build.log" >&2
  exit 1
}
# The image that had this tag has no name now; it is ours to remove.
if [ -n "$before" ] && [ "$before" != "$(buildah images --quiet "$tag")" ]; then
  buildah rmi "$before" >/dev/null
fi
echo "image: $tag, $(buildah images --format '{{.Size}}' "$tag")"

# The network is the host's under chroot isolation, so the service gets an empty one of its own where that is allowed:
# its port is then never taken, and nothing outside can reach it.
container=$(buildah from "$tag")
smoke=(python3 docker/smoke.py "$container" "$tag")
if unshare --net true 2>/dev/null; then
  smoke=(unshare --net sh -c 'ip link set lo up && exec "$@"' smoke "${smoke[@]}")
fi
"${smoke[@]}"
