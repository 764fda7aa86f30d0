#!/bin/sh
# Makes the secrets that compose.yaml reads, a file each, in a new folder: ./secrets, or the one that is named.
#
# Compose mounts the files as they are, so users inside the containers must be able to read them: they are readable for
# all, in a folder that only its owner can enter.
set -eu
umask 077

folder=${1:-secrets}
if [ -e "$folder" ]; then
  echo "error: $folder is there already; nothing was changed (a new service key could not read the old database)" >&2
  exit 1
fi
mkdir "$folder"
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' HUP INT TERM

keep() { # NAME TEXT
  printf '%s\n' "$2" >"$folder/$1"
  chmod 444 "$folder/$1"
}

random() { # 32 random bytes in base64url
  text=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')
  [ ${#text} -eq 43 ] || { echo "error: no random bytes to be had from /dev/urandom" >&2; exit 1; }
  printf '%s' "$text"
}

owner=$(random)
service=$(random)
broker=$(random)
superuser=$(random)
service_key=$(random)
signing_key=$(random)
audit_key=$(random)

keep postgres_password "$superuser"
keep postgres_owner_password "$owner"
keep postgres_service_password "$service"
keep database_owner_url "postgresql://lizenzserver_owner:$owner@postgres:5432/licensing"
keep database_url "postgresql://lizenzserver:$service@postgres:5432/licensing"
keep rabbitmq_user "default_user = lizenzserver
default_pass = $broker"
keep amqp_url "amqp://lizenzserver:$broker@rabbitmq:5672/"
keep service_key "$service_key"
keep audit_key "$audit_key"
keep signing_keys "[{\"private_key\": \"$signing_key\", \"created_at\": \"$(date -u +%Y-%m-%dT%H:%M:%SZ)\", \"retired_at\": null}]"
for credential in admin_api_key:adm_ admin_secret:ads_ client_token:clt_ admin_token:adt_; do
  secret=$(random)
  keep "${credential%:*}" "${credential#*:}$secret"
done

trap - EXIT
echo "made $folder; back up $folder/service_key, $folder/signing_keys and $folder/audit_key: without the first, nobody can read the database"
