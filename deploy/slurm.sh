#!/bin/bash
# One run a GPU on one study, wherever Slurm finds the GPUs: sbatch deploy/slurm.sh MODEL
# The password stands in ~/.pgpass (host:port:database:user:password, mode 600), which libpq reads on every node.
#SBATCH --job-name=heretic
#SBATCH --array=1-4
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
# Five minutes before the time is over each run ends its trials and leaves the study; the same command goes on with it.
#SBATCH --signal=TERM@300
set -euo pipefail

export HERETIC_STORAGE=${HERETIC_STORAGE:-postgresql+psycopg://heretic@database.example.org/heretic}
srun heretic --model "$1" --join --auto-select true --auto-select-path "edited-$SLURM_ARRAY_TASK_ID"
