"""Recipe + data + engine -> run: the loop, the filling of plans, schedules, checkpoints."""
