"""A grid of trainings (`segtrain train -m`): every combination of values a job, in this process or on SLURM."""
