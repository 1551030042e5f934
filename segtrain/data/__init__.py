"""Data sets, augmentation, samplers and loaders: from files to uint8 batches."""
