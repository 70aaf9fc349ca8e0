"""For other libraries, one module each. Nothing here is imported unless you import it."""
