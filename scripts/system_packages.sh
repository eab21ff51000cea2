#!/usr/bin/env bash
# Installs what the tests need from the system and pip cannot bring: a C++ compiler and CMake for the native parts;
#   --postgresql   PostgreSQL's programs, for the slow tests of the service: each session makes a server of its own
#   --docker       the tools that build and test the container image without a Docker engine
# Does nothing where all is there, and nothing but say so where it may not install.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

need c++ g++
need cmake cmake
for wanted in "$@"; do
  case $wanted in
    --postgresql)
      # Debian keeps initdb where no shell looks.
      ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need initdb postgresql
      ;;
    --docker)
      need buildah buildah
      need debootstrap debootstrap
      ;;
    *)
      echo "There is no option $wanted; there are --postgresql and --docker." >&2
      exit 2
      ;;
  esac
done

if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "These system packages are missing and only root with apt-get can install them here: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# The tests need PostgreSQL's programs and no server of the system's.
if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  mkdir -p /etc/postgresql-common
  echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
fi
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
