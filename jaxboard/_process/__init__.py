"""The life of the process: exit, forks, and its rank in a job."""
