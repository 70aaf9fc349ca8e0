"""The life of the process: its exit, its forks, and its rank in a job."""
