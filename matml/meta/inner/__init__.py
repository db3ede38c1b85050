"""How a task is adapted: gradient steps, closed forms, the mode of a posterior."""
