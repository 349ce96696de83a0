"""Authentication, and what the engine signs.

In reading order:

- `keys`: the account key, endpoints' keys, workers' tokens and join tokens, nearly all derived from one secret.
- `key_ring`: keys with a name, a role and an end. `key_index`: whose endpoint's key a key is, found by its digest.
- `account`: whether a call has a key whose role is enough. `sign_in`: the cookie of a page that was signed in with one.
- `clients`: which endpoints a client's key is for.
- `workers`: which worker a report is from. `worker_clocks`: what its own clock shows, by which its grants expire.
- `request_numbers`: numbers of requests that other holders of the same key cannot guess.
- `signing`: the signature of a worker's URL, which Vast's framework checks. `certificates`: the authority that signs
  workers' TLS certificates.
"""
