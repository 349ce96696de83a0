"""``python -m tools.mutation``: bugs drawn at random from the core, and what notices them.

`operators` has the ways to change a syntax tree, `draw` chooses some of all that are possible, `trial` runs the three
nets against one (the core's unit tests, the simulator, the walk through all states), each in a process of its own. No
file of the working tree is changed: a mutant exists as the module that such a process imports.
"""
