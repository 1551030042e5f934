"""Weights, gradients and optimizer state shared out among devices: `trainer=fsdp`."""
