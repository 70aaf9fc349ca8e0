"""The life of the process: its exit, its forks, and its rank in a job.

jaxboard starts these threads. All but the second are daemons:

- a flusher for each run, from opening to closing it (``_host/flusher.py``);
- a thread that keeps the interpreter alive while a flusher opens its sinks, once for each run;
- a thread that closes the runs on SIGTERM and SIGHUP, from the first run on (``exit.py``);
- a thread for each run in a job of several processes, which records what the process does (``_job/heartbeat.py``);
- a thread for each profile that is being recorded (``_profile/capture.py``).

Host callbacks run on threads of XLA. None of these threads exists in a forked child; ``fork.py`` lists what
happens around a fork.
"""
