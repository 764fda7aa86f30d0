#!/usr/bin/env bash
# Installs the programs that tests run besides the project: RabbitMQ, Redis, Node.js, OpenSSL, curl, jq, wrk. Says loudly what
# is missing.
set -euo pipefail

declare -A package=([rabbitmq-server]=rabbitmq-server [redis-server]=redis-server [node]=nodejs [openssl]=openssl [curl]=curl [jq]=jq [wrk]=wrk)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "== installing ${missing[*]}"
  # Services that a package brings along are not wanted: tests start their own.
  printf '#!/bin/sh\nexit 101\n' >/tmp/no-services.$$ && chmod +x /tmp/no-services.$$
  had_policy=$([ -e /usr/sbin/policy-rc.d ] && echo yes || echo no)
  [ "$had_policy" = yes ] || cp /tmp/no-services.$$ /usr/sbin/policy-rc.d
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || true
  [ "$had_policy" = yes ] || rm -f /usr/sbin/policy-rc.d
  rm -f /tmp/no-services.$$
fi

for program in "${!package[@]}"; do
  command -v "$program" >/dev/null || echo "MISSING: $program (Debian package ${package[$program]}): its tests can't run" >&2
done
