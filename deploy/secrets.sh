#!/bin/sh
# Write the secrets of docker-compose.yml, once: what is there stays. `make secrets` calls this.
# The directory is private; the files are not, because containers read them as users of their own.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets

write() {
    if [ ! -e "secrets/$1" ]; then
        head -c 32 /dev/urandom | base64 | tr -d '\n' >"secrets/$1"
        chmod 0444 "secrets/$1"
    fi
}

write database_password
write temporal_password
write clarion_key
