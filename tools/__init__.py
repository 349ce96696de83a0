"""What the Makefile runs on the package as a whole: the wheel, the size of an installation, other Pythons."""
