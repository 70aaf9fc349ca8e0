"""The device side: reports in traced code, and the rewriting that turns them into outputs (see README.md)."""
