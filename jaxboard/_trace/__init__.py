"""The device side: reports in traced code, and how they get out of it."""
