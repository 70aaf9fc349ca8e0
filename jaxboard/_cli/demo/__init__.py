"""``python -m jaxboard demo``: a user's program that trains a network on handwritten digits.

Read it in this order: ``digits`` (the data), ``classifier`` (the model and its loss), ``train_and_eval`` (the two jitted
steps), ``trial`` (the training loop), ``overview`` (what is reported once), ``showcase`` (the program).
"""
