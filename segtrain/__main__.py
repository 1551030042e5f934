"""`python -m segtrain <command> ...` is `segtrain <command> ...`."""

from segtrain.cli import main

if __name__ == "__main__":
    main()
