"""The host side: the buffer of reports, and the thread that carries them to the sinks."""
