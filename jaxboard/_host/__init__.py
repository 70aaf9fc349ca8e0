"""The host side: where reports wait, and the thread that carries them to the sinks."""
