#!/bin/sh
# Triton with the APIs closed that could change the server, as `tools serve` closes them: their key
# is of this start and told to nobody.
set -eu
key=$(cat /proc/sys/kernel/random/uuid)
closed=@{closed_apis}
exec tritonserver \
  --model-repository="${MODELS:-@{models_mount}/models}" \
  @{common_options} \
  --exit-timeout-secs="${EXIT_TIMEOUT_S:-@{exit_timeout_s}}" \
  --http-port="${HTTP_PORT:-@{http_port}}" \
  --grpc-port="${GRPC_PORT:-@{grpc_port}}" \
  --metrics-port="${METRICS_PORT:-@{metrics_port}}" \
  --http-restricted-api="$closed:closed=$key" \
  --grpc-restricted-protocol="$closed:closed=$key" \
  "$@"
