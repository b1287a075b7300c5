#!/bin/sh
# Usage: experiments/verbosity_v2/run.sh MODEL [heretic arguments]: search, choose, confirm on held-out prompts, save to out/verbosity_v2.
set -eu
cd "$(dirname "$0")/../.."
model=$1
shift
exec heretic --model "$model" --config experiments/verbosity_v2/config.toml --auto-select true --auto-select-path "out/verbosity_v2" "$@"
