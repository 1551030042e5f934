"""What came of the runs in a folder: what differed between them, how they scored, and which one won."""
