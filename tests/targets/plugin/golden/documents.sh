#!/bin/sh
# A flow, compiled by Kitaru. Compile it again instead of changing this file.
set -eu
store=s3://bucket/prefix
execution=''
run="${KITARU_RUN:-$(date +%s)-$$}"
step() {
env PYTHONHASHSEED=0 python3 -c pass step --step "$1" --run "$run" --store "${KITARU_STORE:-$store}" --execution "${KITARU_EXECUTION:-$execution}" --inputs-env KITARU_INPUT_ --inputs-key "${KITARU_INPUTS:-}"
}
step step
step step_2
