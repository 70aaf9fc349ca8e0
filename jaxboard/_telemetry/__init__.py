"""What a run tells of itself: compilations, step times, memory, its own cost. All under ``jaxboard/``."""
