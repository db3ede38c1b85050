"""Learning to learn: tasks, inner loops, outer loops. Knows torch, nothing of materials."""
