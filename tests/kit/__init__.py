"""What the tests of several areas share.

- `waiting`: `until`, for a condition that nothing announces;
- `virtual_time`: `run_in_virtual_time`, where waits take no time;
- `open_files`: what this process has open;
- `engine_key`: an engine's key, with which tests sign as an engine does;
- `authority`: a certificate authority;
- `stub_engine`: the engine's side of the wire towards workers, for what a real engine cannot be made to do;
- `client_stubs`: an engine and a worker towards clients, for the same.
"""
