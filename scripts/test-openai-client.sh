#!/bin/sh
# Asks `gpu-tlm serve` by OpenAI's Python client, from a folder of its own, and by curl.
#
# Usage: test-openai-client.sh PROGRAM PYTHON FOLDER
# where FOLDER takes a small model and the client, where they are missing.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

program=$1
python=$2
folder=$3

command -v curl >/dev/null || install_packages curl curl curl
"$(dirname "$0")/ensure-served-model.sh" "$program" "$folder/run"
if ! "$folder/client/bin/python" -c 'import openai' 2>/dev/null; then
    "$python" -c 'import ensurepip' 2>/dev/null ||
        install_packages python3-venv python3 python
    "$python" -m venv "$folder/client"
    "$folder/client/bin/python" -m pip install --quiet --disable-pip-version-check openai==3.57.0
fi

key=$folder/key
(umask 077 && echo "a-key-for-this-test" >"$key")
log=$folder/serve.log
"$program" serve --port 0 --no-tune --slots 2 --max-queue 2 --api-key-file "$key" \
    --checkpoint "$folder/run/checkpoints/latest.safetensors" --tokenizer "$folder/run/tokenizer" \
    --model-name stories >"$folder/address" 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 600); do
    [ ! -s "$folder/address" ] || break
    kill -0 "$server" || { cat "$log" >&2; exit 1; }
    sleep 0.1
done
address=$(cat "$folder/address")

echo "==> curl"
answer=$(curl --silent --show-error --fail "$address/v1/completions" \
    -H "Authorization: Bearer $(cat "$key")" -H 'Content-Type: application/json' \
    -d '{"model": "stories", "prompt": "Once", "max_tokens": 5, "seed": 1}')
echo "$answer"
case $answer in
    *'"object":"text_completion"'*'"completion_tokens":5'*) ;;
    *) say "that is no completion"; exit 1 ;;
esac

echo "==> OpenAI's client"
"$folder/client/bin/python" "$(dirname "$0")/openai_client.py" "$address" "$(cat "$key")"

kill -TERM "$server"
wait "$server"
