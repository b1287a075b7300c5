#!/bin/bash
# One run whose workers are the GPUs of all nodes: sbatch deploy/slurm-ray.sh MODEL. The nodes must see each other and a
# folder that all share, which this is started in. Ray starts on every node, the run on the first.
#SBATCH --job-name=heretic
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --mem=256G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@300
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_ON_NODE" -- \
  heretic --model "$1" --workers "$((SLURM_JOB_NUM_NODES * SLURM_GPUS_ON_NODE))" --ray-address auto \
  --auto-select true --auto-select-path edited
