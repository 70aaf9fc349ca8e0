"""The deliveries: the ways to run the calls of a function and to bring their reports to the host."""
