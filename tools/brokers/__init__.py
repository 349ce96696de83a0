"""``make brokers``: gets the brokers and libraries that the tests need and no extra brings, before any test runs.

In reading order:

- ``needs``: what is needed, where it is looked for, and which tests are skipped without it.
- ``debian``: gets Debian packages so that the package system is whole whatever happens.
- ``libraries``: gets libraries of Node and of Python into folders inside the environment.
- ``__main__``: the step, with one line for each need.

The tests only look, through ``needs``; none installs anything.
"""
