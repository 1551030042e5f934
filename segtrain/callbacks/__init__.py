"""What happens around training: progress, checkpoints, averages, pictures, files."""
