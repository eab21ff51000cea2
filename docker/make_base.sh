#!/usr/bin/env bash
# Makes a base image from Debian bookworm (its python3 is 3.11) where no container registry can be reached.
#   docker/make_base.sh [TAG]     default: localhost/poet-base:bookworm; does nothing where that image is already there
#   POET_DEBIAN_MIRROR            the mirror to take the packages from
# Needs root, debootstrap and buildah.
set -euo pipefail

tag=${1:-localhost/poet-base:bookworm}
mirror=${POET_DEBIAN_MIRROR:-http://deb.debian.org/debian}

if buildah inspect --type image "$tag" >/dev/null 2>&1; then
  exit 0
fi

root=$(mktemp -d)
container=
cleanup() {
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  rm -rf --one-file-system "$root"
}
trap cleanup EXIT

debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root" "$mirror" >"$root.log" 2>&1 || {
  tail -n 20 "$root.log" >&2
  exit 1
}
rm -rf "$root.log" "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}
# The names of this machine are not the image's.
: >"$root/etc/resolv.conf"
rm -f "$root/etc/hostname"

container=$(buildah from scratch)
buildah add --quiet "$container" "$root" / >/dev/null
buildah config --cmd python3 --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --format docker "$container" "$tag" >/dev/null
