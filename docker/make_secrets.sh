#!/usr/bin/env bash
# Makes the secrets that docker/compose.yaml mounts, where they are not there yet; never changes one that is.
#   docker/make_secrets.sh [FOLDER]     default: docker/secrets
# The folder is the owner's alone. The files in it can be read by all, because a container's user is another number than
# yours and sees the file without the folder.
set -euo pipefail

folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"
chmod 700 "$folder"

# 32 random bytes, in the 43 characters that an API token has.
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

make() {
  local file=$folder/$1
  if [ ! -e "$file" ]; then
    printf '%s' "$2" >"$file.new"
    chmod 444 "$file.new"
    mv "$file.new" "$file"
    echo "made $file"
  fi
}

make database_password "$(random)"
make database_url "postgresql://poet:$(cat "$folder/database_password")@database/poet"
make token "poet_$(random)"
