"""Reading event files back, of jaxboard and of every other writer: ``jaxboard.read`` and ``jaxboard verify``."""
