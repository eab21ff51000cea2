#!/usr/bin/env bash
# Installs what the tests need from the system and pip cannot bring: a C++ compiler and CMake for the native parts, and,
# with --docker, the tools that build and test the container image without a Docker engine.
# Does nothing where all is there, and nothing but say so where it may not install.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

need c++ g++
need cmake cmake
if [ "${1:-}" = --docker ]; then
  need buildah buildah
  need debootstrap debootstrap
fi

if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "These system packages are missing and only root with apt-get can install them here: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
