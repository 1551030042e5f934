"""What SLURM and torchrun say of the processes that they started."""
