# shellcheck shell=bash
# Shell functions of the recipe; sourced.

# together GPUS PORT PROGRAM ARGUMENTS...: one process of a Python program on each GPU of a list like "0 1 2", as one
# group (group.py). When one fails, all end.
together() (
    read -ra gpus <<< "$1"
    port=$2
    shift 2
    for rank in "${!gpus[@]}"; do
        CUDA_VISIBLE_DEVICES=${gpus[$rank]} RANK=$rank WORLD_SIZE=${#gpus[@]} MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
            python3 "$@" &
    done
    for rank in "${!gpus[@]}"; do
        wait -n || { status=$?; jobs -p | xargs -r kill 2> /dev/null; exit $status; }
    done
)
