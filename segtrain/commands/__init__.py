"""One file a command; the first line of each is what `segtrain --help` says of it."""
