"""Faults at random moments, on real processes: an engine, a dispatcher, workers and consumers on one machine.

``make chaos`` runs each kind of fault some times, several episodes at once, and prints a table. In reading order:
`faults` has the kinds, `world` starts and ends the processes of one episode, `jobs` is their queue and `consumer` does
what is in it. `history` judges what happened by what consumers and the kernel say alone, and knows nothing of the code.
`episode` is the program that runs one, `sandbox` gives it processes, mounts and a network of its own, `machine` says
what there is for that, and `record` keeps how many were run on the code as it is.
"""
