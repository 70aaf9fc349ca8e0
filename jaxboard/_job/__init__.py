"""Jobs of several processes: what each process is doing, and which one the others wait for."""
