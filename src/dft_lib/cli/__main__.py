"""``python -m dft_lib.cli`` is ``dft``."""

from dft_lib.cli import main

if __name__ == "__main__":
    main()
