#!/bin/sh
# Usage: experiments/refusal/run.sh MODEL [heretic arguments]: search, choose, confirm on held-out prompts, save to out/refusal.
set -eu
cd "$(dirname "$0")/../.."
model=$1
shift
exec heretic --model "$model" --config experiments/refusal/config.toml --auto-select true --auto-select-path "out/refusal" "$@"
