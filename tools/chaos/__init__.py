"""Faults at random moments, on real processes: an engine, a dispatcher, workers and consumers on one machine.

``make chaos`` runs each kind of fault some times and prints a table. `world` starts and ends the processes, `faults`
has the kinds, `history` judges what happened by what consumers and the kernel say alone, and knows nothing of the code.
`consumer` does the jobs.
"""
