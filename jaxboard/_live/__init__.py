"""The live panel of a run: curves and progress under a notebook cell, or one line in a terminal."""
